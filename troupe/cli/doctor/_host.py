"""What is on this host: disk, keys, ports, time zones."""

import shutil
import socket
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx2

from troupe.cli.doctor._findings import Finding, State
from troupe.common.config import Configuration
from troupe.common.errors import ConfigurationError
from troupe.common.secrets import KeyRing
from troupe.common.units import SECONDS, GiB, MiB
from troupe.control import NotRunning
from troupe.supervisor import read_run_file
from troupe.wiring import GROUPS, key_file

FULL: Final = 256 * MiB
TIGHT: Final = 2 * GiB
ANSWER_DEADLINE: Final = 5 * SECONDS
OLDEST_PLAUSIBLE: Final = datetime(2026, 1, 1, tzinfo=UTC)


async def check_disk(configuration: Configuration) -> AsyncGenerator[Finding, None]:
    """Room where state lies, and whether we may write there."""
    directory = configuration.state_directory
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    told = f"{free // MiB} MiB are free at {there}."
    if free < FULL:
        yield Finding("disk", State.FAILED, told, "Free space there, or move state_directory.")
    elif free < TIGHT:
        yield Finding("disk", State.WARNING, told, "Free space there before the data grow.")
    else:
        yield Finding("disk", State.OK, told)


async def check_keys(configuration: Configuration) -> AsyncGenerator[Finding, None]:
    """The key file: there, readable for us, closed to others."""
    path = key_file(configuration)
    if not path.exists():
        if configuration.auth.key_encryption_key_file:
            yield Finding(
                "key file",
                State.FAILED,
                f"There is no {path}.",
                "Restore it from its backup, or correct auth.key_encryption_key_file.",
            )
        else:
            yield Finding("key file", State.SKIPPED, f"{path} is made by the first start.")
        return
    try:
        ring = KeyRing.load(path)
    except ConfigurationError as error:
        yield Finding("key file", State.FAILED, str(error), "Correct the file or its permissions.")
        return
    count = len(ring.identifiers)
    yield Finding("key file", State.OK, f"{path} holds {count} key{'s' * (count > 1)}.")


async def check_time(_configuration: Configuration) -> AsyncGenerator[Finding, None]:
    """Time zones are known, and this host does not believe to live in another decade."""
    try:
        ZoneInfo("Europe/Berlin")
    except ZoneInfoNotFoundError:
        yield Finding(
            "time zones",
            State.FAILED,
            "This Python knows no time zones.",
            "Install the package tzdata.",
        )
    else:
        yield Finding("time zones", State.OK, "Time zones are known.")
    now = datetime.now(UTC)
    if now < OLDEST_PLAUSIBLE:
        yield Finding(
            "clock", State.FAILED, f"The clock says {now:%Y-%m-%d}.", "Set it; run a time service."
        )


async def check_ports(configuration: Configuration) -> AsyncGenerator[Finding, None]:
    """Groups that run answer; ports of those that do not are free."""
    try:
        urls = read_run_file(configuration.state_directory).urls
    except NotRunning:
        for name in GROUPS:
            yield _free(name, configuration)
        return
    async with httpx2.AsyncClient(timeout=ANSWER_DEADLINE, trust_env=False) as client:
        for name, url in urls.items():
            yield await _answers(client, name, url)


def _free(name: str, configuration: Configuration) -> Finding:
    settings = configuration.groups.named(name)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            return Finding(
                f"port of {name}",
                State.FAILED,
                f"{settings.host}:{settings.port} cannot be had: {error.strerror}.",
                f"Stop what listens there, or set groups.{name}.port.",
            )
    return Finding(f"port of {name}", State.OK, f"{settings.host}:{settings.port} is free.")


async def _answers(client: httpx2.AsyncClient, name: str, url: str) -> Finding:
    check = f"port of {name}"
    try:
        answer = await client.get(f"{url}/health/ready")
    except httpx2.HTTPError:
        return Finding(
            check,
            State.FAILED,
            f"{url} does not answer.",
            "Look at the log and at 'troupe status'.",
        )
    if answer.status_code != 200:
        return Finding(
            check, State.FAILED, f"{url} is not ready.", "'troupe status' shows which part is not."
        )
    return Finding(check, State.OK, f"{url} is ready.")


async def check_state_directory(configuration: Configuration) -> AsyncGenerator[Finding, None]:
    """The state directory is ours and closed to others."""
    yield _closed(configuration.state_directory)


def _closed(directory: Path) -> Finding:
    check = "state directory"
    if not directory.exists():
        return Finding(check, State.SKIPPED, f"{directory} is made by the first start.")
    if directory.stat().st_mode & 0o002:
        told = f"{directory} may be written by every account of this host."
        return Finding(check, State.FAILED, told, f"Run: chmod o-w {directory}")
    return Finding(check, State.OK, f"{directory} is closed to others.")
