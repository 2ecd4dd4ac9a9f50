"""npm's oidc-provider beside our own: a second opinion on what the protocol is.

It is installed with `npm ci` from package-lock.json, which holds exact versions and integrity
hashes and no address of a registry (``npm install --omit-lockfile-registry-resolved``): what is
installed is checked byte by byte, wherever it comes from. Scripts of packages are not run.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit
from uuid import UUID

import httpx2
import pytest

from tests.integration.auth.conftest import browser, other_browser, provider, site
from tests.integration.auth.site import PASSWORD, USERS, Browser, Site

__all__ = ["browser", "other_browser", "provider", "site"]

HERE: Final = Path(__file__).parent
INSTALL_SECONDS: Final = 180
SECRET: Final = "client-secret-canary: +/%&="
CLIENTS: Final = ("confidential-rs", "confidential-es", "public")
ALGORITHM: Final = {"confidential-rs": "RS256", "confidential-es": "ES256", "public": "RS256"}
APP: Final = "mobile-app"
APP_RETURN: Final = "http://127.0.0.1:9/returned"
AUDIENCES: Final = {
    "confidential-rs": "https://api.example/opaque",
    "confidential-es": "https://api.example/ec",
    "public": "https://api.example/rsa",
}


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The provider's packages, installed once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.fail("Node.js is not installed: 'make e2e' as root installs it on Debian")
    marker = HERE / "node_modules" / ".package-lock.json"
    lock = HERE / "package-lock.json"
    if not marker.exists() or marker.stat().st_mtime < lock.stat().st_mtime:
        result = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            pytest.fail(f"npm ci failed: {result.stderr[-2000:]}")
    return marker.parent


@dataclass
class IndependentProvider:
    """The process; see provider.mjs."""

    process: "subprocess.Popen[str]"
    issuer: str
    ids: dict[str, UUID] = field(default_factory=dict)

    def tell(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Give a command; the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def configure(self, url: str) -> None:
        """Make it know us as three clients, an application that calls our API, and our people."""
        ours = {
            "redirect_uris": [f"{url}/api/v1/callback"],
            "post_logout_redirect_uris": [f"{url}/"],
            "grant_types": ["authorization_code", "refresh_token"],
            "backchannel_logout_uri": f"{url}/api/v1/backchannel-logout",
            "backchannel_logout_session_required": True,
        }
        secrets: dict[str, dict[str, str]] = {
            "confidential-rs": {"client_secret": SECRET},
            "confidential-es": {
                "client_secret": SECRET,
                "token_endpoint_auth_method": "client_secret_post",
            },
            "public": {"token_endpoint_auth_method": "none"},
        }
        clients = [
            {
                "client_id": name,
                "id_token_signed_response_alg": ALGORITHM[name],
                **ours,
                **secrets[name],
            }
            for name in CLIENTS
        ]
        app = {
            "client_id": APP,
            "token_endpoint_auth_method": "none",
            "redirect_uris": [APP_RETURN],
            "grant_types": ["authorization_code", "refresh_token"],
        }
        people = {name: {**user, "password": PASSWORD} for name, user in USERS.items()}
        self.tell("configure", clients=[*clients, app], people=people)


@pytest.fixture(scope="session")
def independent_process(
    node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IndependentProvider]:
    assert node_modules.is_dir()
    with (tmp_path_factory.mktemp("node") / "log").open("wb") as log:
        process = subprocess.Popen(
            ["node", "provider.mjs"],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            yield IndependentProvider(process, json.loads(process.stdout.readline())["issuer"])
        process.wait(5)


@pytest.fixture
async def independent(independent_process: IndependentProvider, site: Site) -> IndependentProvider:
    """Set up at the tenant Harbor under all three clients, beside the development provider."""
    independent_process.configure(site.url)
    for name in CLIENTS:
        await site.put_provider(
            site.harbor,
            label=name,
            issuer=independent_process.issuer,
            client_id=name,
            client_secret=None if name == "public" else SECRET,
            signing_algorithms=[ALGORITHM[name]],
            scopes=("openid", "email", "profile", "offline_access"),
            allowed_email_domains=["harbor.example"],
            joining_role="analyst",
            api_audience=AUDIENCES[name],
            introspection=name == "confidential-rs",
        )
        independent_process.ids[name] = site.providers[site.harbor]
    return independent_process


async def follow(
    browser: Browser, answer: httpx2.Response, stop: str | None = None
) -> httpx2.Response:
    """Follow redirects, until there is none or it leads to an address that starts with `stop`."""
    for _ in range(10):
        if answer.status_code not in {302, 303}:
            return answer
        target = urljoin(str(answer.url), answer.headers["Location"])
        if stop is not None and target.startswith(stop):
            return answer
        answer = await browser.client.get(target)
    raise AssertionError("it redirects for ever")


async def fill_in(
    browser: Browser,
    form: httpx2.Response,
    username: str,
    password: str = PASSWORD,
    action: str = "login",
) -> httpx2.Response:
    """Send the provider's form."""
    found = re.search('action="([^"]+)"', form.text)
    assert found is not None, form.text
    return await browser.client.post(
        urljoin(str(form.url), found[1]),
        data={"username": username, "password": password, "action": action},
    )


async def log_in(
    browser: Browser, site: Site, provider_id: UUID, username: str = "ada", stop: str | None = None
) -> httpx2.Response:
    """The whole way: our answer to the callback (or the redirect to `stop`)."""
    begun = await browser.get("/api/v1/login", params={"provider": str(provider_id)})
    callback = f"{site.url}/api/v1/callback"
    answer = await follow(browser, begun, callback)
    if answer.status_code == 200:
        answer = await follow(browser, await fill_in(browser, answer, username), callback)
    target = urljoin(str(answer.url), answer.headers["Location"])
    assert target.startswith(callback), answer.text
    if stop is not None:
        return answer
    return await browser.get(target)


def host_of(url: str) -> str:
    """Host and port."""
    return urlsplit(url).netloc
