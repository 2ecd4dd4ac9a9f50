import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.auth.site import Browser, DevelopmentProvider, Site, open_site
from tests.support.postgres import TestDatabase
from troupe.common.database import Database


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevelopmentProvider]:
    """The development provider, one process for all tests."""
    directory: Path = tmp_path_factory.mktemp("oidc")
    path = directory / "provider.json"
    path.write_text("{}", encoding="utf-8")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "troupe_demo.oidc", "--config", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            ready = json.loads(process.stdout.readline())
            yield DevelopmentProvider(ready["issuer"], path)
        process.wait(5)


@pytest.fixture
async def site(
    database: Database,
    fresh_database: TestDatabase,
    provider: DevelopmentProvider,
) -> AsyncIterator[Site]:
    async with open_site(database, fresh_database, provider) as running:
        yield running


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    one = Browser(site)
    async with one.client:
        yield one


@pytest.fixture
async def other_browser(site: Site) -> AsyncIterator[Browser]:
    one = Browser(site)
    async with one.client:
        yield one
