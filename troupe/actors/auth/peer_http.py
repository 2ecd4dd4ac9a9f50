"""HTTP to identity providers: JSON in, JSON out, everything bounded.

The peer is named by a tenant and may be hostile or broken. So: one deadline over connect, TLS,
request and answer together; at most 256 KiB of answer, counted before decoding (a compressed body
is refused, since a kilobyte of it can stand for a megabyte); no redirects; no cookies kept; no
proxy or netrc taken from the environment; the host checked by `troupe.common.outbound` and
connected to by its checked address.

Each request uses a connection of its own. A pool would key its connections by address, and two
tenants' providers may share one (a CDN): the TLS session of one name would then serve the other.
"""

import json
import ssl
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self

import httpx2
import trio

from troupe.actors.auth.errors import ProviderMisbehaved, ProviderUnavailable
from troupe.common.errors import PeerUnavailable
from troupe.common.guarded_http import GuardedTransport
from troupe.common.outbound import OutboundGuard
from troupe.common.units import SECONDS, KiB

DEADLINE: Final = 5 * SECONDS
MAX_ANSWER_BYTES: Final = 256 * KiB


class PeerHttp:
    """An HTTP client for identity providers. Use as an async context manager.

    Args:
        guard: Decides which hosts may be connected to.
        tls: Trust for ``https``; the system's by default.
    """

    def __init__(self, guard: OutboundGuard, tls: ssl.SSLContext | None = None) -> None:
        self._client = httpx2.AsyncClient(
            transport=GuardedTransport(guard, tls),
            timeout=httpx2.Timeout(DEADLINE),
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "troupe",
            },
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def get(self, url: str, *, bearer: str | None = None) -> dict[str, Any]:
        """GET a JSON object.

        Args:
            url: Of the peer.
            bearer: An access token.

        Raises:
            ProviderUnavailable: No answer in time, or "later" (429, 5xx).
            ProviderMisbehaved: Another status than 200, not JSON, too large, compressed.
            HostNotAllowed: The host may not be connected to.
        """
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        status, body = await self._exchange(self._client.build_request("GET", url, headers=headers))
        if status != 200:
            raise ProviderMisbehaved(f"The identity provider answered with status {status}.")
        return body

    async def post_form(
        self, url: str, form: Mapping[str, str], *, authorization: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """POST a form; the status (200 or 4xx) and the JSON object of the answer.

        Raises:
            ProviderUnavailable: No answer in time, or "later" (429, 5xx).
            ProviderMisbehaved: Not JSON, too large, compressed, or a redirect.
            HostNotAllowed: The host may not be connected to.
        """
        headers = {} if authorization is None else {"Authorization": authorization}
        request = self._client.build_request("POST", url, data=dict(form), headers=headers)
        return await self._exchange(request)

    async def _exchange(self, request: httpx2.Request) -> tuple[int, dict[str, Any]]:
        try:
            with trio.fail_after(DEADLINE):
                return await self._answer(request)
        except (trio.TooSlowError, httpx2.TimeoutException):
            raise ProviderUnavailable(
                f"The identity provider did not answer within {DEADLINE:g} seconds."
            ) from None
        except httpx2.HTTPError as error:
            raise ProviderUnavailable("The identity provider cannot be reached.") from error
        except PeerUnavailable as error:
            raise ProviderUnavailable(str(error)) from error
        except httpx2.InvalidURL:
            raise ProviderMisbehaved("The identity provider names an invalid address.") from None

    async def _answer(self, request: httpx2.Request) -> tuple[int, dict[str, Any]]:
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code == 429 or response.status_code >= 500:
                raise ProviderUnavailable(
                    f"The identity provider answered with status {response.status_code}."
                )
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ProviderMisbehaved("The identity provider sent a compressed answer.")
            content = await _bounded(response)
        finally:
            await response.aclose()
        if len(content) > MAX_ANSWER_BYTES:
            raise ProviderMisbehaved("The identity provider's answer is too large.")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or not (
            response.status_code == 200 or 400 <= response.status_code < 500
        ):
            raise ProviderMisbehaved(
                f"The identity provider's answer (status {response.status_code}) is not JSON."
            )
        return response.status_code, body


async def _bounded(response: httpx2.Response) -> bytes:
    """The body, or somewhat more of it than is allowed.

    The rest is cancelled rather than left: the client reads through nested generators, and one
    that is left in the middle is only cleaned up by the garbage collector.
    """
    content = bytearray()
    with trio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                enough.cancel()
    return bytes(content)
