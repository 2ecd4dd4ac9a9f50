"""Sets the scene of a demonstration: data, stand-ins, installation, tenants, ingestion.

State lies in one directory::

    demo.json     what the directory was made for; only a directory with it is ever cleared
    bigquery/     the exports, one folder per project
    sftp/ mail/   what the file server serves, what the mail sink received
    log/          standard error of the stand-ins
    troupe/       the installation's own state directory

The same plan finds its data again and only loads what has changed since. Another plan, or another
day, clears what this module made and starts over.
"""

import errno
import json
import math
import os
import secrets
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from troupe.common import logs
from troupe.common.config import Configuration, load
from troupe.common.errors import ConfigurationError, DatabaseUnavailable, StorageFull
from troupe.common.files import write_private
from troupe.common.units import DAYS
from troupe.platform.errors import leaves
from troupe.supervisor import Installation, open_installation
from troupe_demo.companions import companion
from troupe_demo.ga4 import DEMO_PROFILES, TenantProfile, generate, write_master_data
from troupe_demo.tenants import DemoTenant, Surroundings, ingest, prepare_tenants

CLIENT_ID: Final = "troupe"
USER: Final = "demo"
PASSWORD: Final = "demo"  # noqa: S105  # printed on start; the provider listens on loopback only
SUBJECT: Final = "demo-person"
_MARKER: Final = "demo.json"
_OURS: Final = ("bigquery", "sftp", "mail", "log", "troupe")
_NOT_ENOUGH_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for.

    Attributes:
        days: Of data, today included.
        events: Of all tenants together, at least.
        seed: Of the generator.
        state: Directory of everything.
        fixed_ports: 8001 to 8003 instead of any free ones.
    """

    days: int
    events: int
    seed: int
    state: Path
    fixed_ports: bool
    profiles: tuple[TenantProfile, ...] = field(default=DEMO_PROFILES, repr=False)

    def last_day(self, profile: TenantProfile) -> date:
        """The property's today."""
        return datetime.now(UTC).astimezone(ZoneInfo(profile.zone)).date()

    def key(self) -> dict[str, Any]:
        """What must be equal for a state directory to be continued."""
        return {
            "days": self.days,
            "events": self.events,
            "seed": self.seed,
            "last_days": {p.project: self.last_day(p).isoformat() for p in self.profiles},
        }


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What runs now."""

    urls: Mapping[str, str]
    tenants: tuple[DemoTenant, ...]
    login: Mapping[str, str]

    def as_record(self) -> dict[str, Any]:
        """The content of a ready file."""
        return {
            "urls": dict(self.urls),
            "tenants": [asdict(tenant) for tenant in self.tenants],
            "login": dict(self.login),
        }


@asynccontextmanager
async def staged(
    plan: Plan, console: Console, *, log_level: str = "info"
) -> AsyncIterator[Demonstration]:
    """Run the whole demonstration while the context is open.

    The terminal is for progress, so the installation logs into ``log/troupe.log``.

    Raises:
        StorageFull: No space is left under the state directory.
        ConfigurationError: The state directory cannot be used.
        TroupeError: Something did not start, or the data could not be loaded.
    """
    try:
        async with AsyncExitStack() as stack:
            await trio.to_thread.run_sync(_claim, plan)
            log = stack.enter_context((plan.state / "log" / "troupe.log").open("w"))
            logs.configure(level=log_level, style="json", stream=log)
            with _progress(console) as progress:
                await _generate(plan, progress)
                demonstration = await _start(plan, stack, progress)
            yield demonstration
    except* OSError as group:
        error = next(leaf for leaf in leaves(group) if isinstance(leaf, OSError))
        if error.errno in _NOT_ENOUGH_SPACE:
            raise StorageFull(f"No space is left under {plan.state}.") from error
        raise ConfigurationError(f"{plan.state} cannot be used: {error}") from error


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
    )


def _claim(plan: Plan) -> None:
    """Make the state directory ours, clearing what another plan left in it.

    Raises:
        ConfigurationError: There is something in it that we did not make.
    """
    marker = plan.state / _MARKER
    plan.state.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps(plan.key())
    if not marker.exists():
        if any(plan.state.iterdir()):
            raise ConfigurationError(
                f"{plan.state} is not empty and not a demonstration's: choose another directory."
            )
    elif marker.read_text(encoding="utf-8") == wanted:
        return
    for name in _OURS:
        if (plan.state / name).exists():
            shutil.rmtree(plan.state / name)
    for name in _OURS:
        (plan.state / name).mkdir()
    write_private(marker, wanted)


async def _generate(plan: Plan, progress: Progress) -> None:
    exports = plan.state / "bigquery"
    shares = sum(profile.share for profile in plan.profiles)
    for profile in plan.profiles:
        task = progress.add_task(f"generating {profile.name}", total=plan.days, note="days")
        done = exports / profile.project / "generated"
        if done.exists():
            progress.update(task, completed=plan.days, note="days, kept")
            continue

        def report(days: int, _total: int, task: Any = task) -> None:
            trio.from_thread.check_cancelled()
            progress.update(task, completed=days)

        def work(profile: TenantProfile = profile, report: Callable[..., None] = report) -> None:
            generate(
                exports,
                [profile],
                days=plan.days,
                events=math.ceil(plan.events * profile.share / shares),
                seed=plan.seed,
                last_day=plan.last_day(profile),
                progress=report,
            )
            files = plan.state / "sftp" / profile.project
            files.mkdir(parents=True, exist_ok=True)
            yesterday = time.time() - 1 * DAYS
            for file in write_master_data(profile, files):
                # A file that was written just now counts as still being written.
                os.utime(file, (yesterday, yesterday))

        await trio.to_thread.run_sync(work)
        done.touch()


async def _start(plan: Plan, stack: AsyncExitStack, progress: Progress) -> Demonstration:
    state, log = plan.state, plan.state / "log"
    task = progress.add_task("starting", total=None, note="stand-ins")
    bigquery = await stack.enter_async_context(
        companion("troupe_demo.bigquery", [str(state / "bigquery")], log=log / "bigquery.log")
    )
    mail = await stack.enter_async_context(
        companion("troupe_demo.mail", [str(state / "mail")], log=log / "mail.log")
    )
    users = {profile.project: {"password": secrets.token_urlsafe(24)} for profile in plan.profiles}
    accounts = state / "sftp" / "users.json"
    write_private(accounts, json.dumps({"users": users}))
    sftp = await stack.enter_async_context(
        companion(
            "troupe_demo.sftp",
            [str(state / "sftp"), "--users", str(accounts)],
            log=log / "sftp.log",
        )
    )
    provider_file = state / "oidc.json"
    client_secret = secrets.token_urlsafe(32)
    write_private(provider_file, json.dumps(_provider(client_secret, None)))
    port = _kept_port(state / "oidc.port")
    oidc = await stack.enter_async_context(
        companion(
            "troupe_demo.oidc",
            ["--config", str(provider_file), "--port", str(port)],
            log=log / "oidc.log",
        )
    )

    progress.update(task, note="installation")
    installation = await stack.enter_async_context(open_installation(_configuration(plan)))
    write_private(provider_file, json.dumps(_provider(client_secret, installation)))
    progress.update(task, total=1, completed=1, note="ready")

    surroundings = Surroundings(
        exports=state / "bigquery",
        bigquery_url=bigquery["url"],
        bigquery_grpc=bigquery["grpc"],
        sftp=sftp,
        sftp_users=users,
        issuer=oidc["issuer"],
        client_id=CLIENT_ID,
        client_secret=client_secret,
        subject=SUBJECT,
        mail=mail["smtp"],
    )
    tenants = await prepare_tenants(plan.profiles, installation, surroundings)
    try:
        await ingest(tenants, plan, installation.urls["data"], progress)
    except* DatabaseUnavailable as group:
        # Callers only know that it is away; its supervisor knows why.
        reason = installation.snapshot().find("postgres").last_error
        raise DatabaseUnavailable(reason or "PostgreSQL went away.") from group
    return Demonstration(
        urls={**installation.urls, "bigquery": bigquery["url"], "mail": mail["url"]},
        tenants=tuple(tenants),
        login={"user": USER, "password": PASSWORD},
    )


def _kept_port(path: Path) -> int:
    """A port that stays the same over restarts, as long as it is free.

    It is part of the issuer's name, and members are known by issuer and subject.
    """
    kept = int(path.read_text(encoding="ascii")) if path.exists() else 0
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", kept))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    path.write_text(str(port), encoding="ascii")
    return port


def _configuration(plan: Plan) -> Configuration:
    ports = {} if plan.fixed_ports else {"port": 0}
    return load(
        environment={},
        overrides={
            "state_directory": plan.state / "troupe",
            "groups": dict.fromkeys(("auth", "data", "analytics"), ports),
            # The stand-ins listen on loopback, which no tenant may name otherwise.
            "auth": {"allow_private_peers": ["127.0.0.0/8"]},
        },
    )


def _provider(client_secret: str, installation: Installation | None) -> dict[str, Any]:
    redirects, after_logout = [], []
    if installation is not None:
        redirects = [f"{installation.urls['auth']}/api/v1/callback"]
        after_logout = [f"{installation.urls['auth']}/"]
    return {
        "clients": [
            {
                "client_id": CLIENT_ID,
                "client_secret": client_secret,
                "redirect_uris": redirects,
                "post_logout_redirect_uris": after_logout,
            }
        ],
        "users": [
            {
                "sub": SUBJECT,
                "username": USER,
                "password": PASSWORD,
                "name": "Dana Demo",
                "email": "dana@demo.example",
            }
        ],
    }
