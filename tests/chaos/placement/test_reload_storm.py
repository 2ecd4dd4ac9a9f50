"""A hundred reloads under load, and a host that is cut off; see the short versions beside these."""

import base64
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from tests.support.chaos.proxy import Proxy
from tests.support.postgres import MakeDatabase
from tests.support.reloads import configured, enqueue_steps, finished, site, storm, write
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.control import AskStatus, ask


async def test_a_hundred_reloads_fail_no_request_and_lose_no_attempt(tmp_path: Path) -> None:
    with trio.fail_after(900), site(tmp_path) as running:
        done = await storm(
            running, reloads=100, jobs=16, steps=100, pause=0.2, between=0.3, placement_every=2
        )
        assert done.reloads == 101
        done.books["live"].assert_spotless(at_least=10_000)
        done.books["database"].assert_spotless(at_least=200)
        done.books["neighbour"].assert_spotless(at_least=1000)
        assert done.resumed >= 300
        assert running.troupe.stop() == 0
    assert "Traceback" not in running.troupe.text()


async def test_a_host_that_is_cut_off_loses_its_jobs_and_commits_nothing_stale(
    tmp_path: Path, make_empty_database: MakeDatabase
) -> None:
    """Host b loses PostgreSQL without a word while it runs jobs; host a takes them over."""
    keys = tmp_path / "keys"
    keys.write_text(base64.b64encode(os.urandom(32)).decode())
    keys.chmod(0o600)
    with trio.fail_after(240), make_empty_database() as database, ExitStack() as stack:
        file = tmp_path / "shared.toml"
        auth = {
            "key_encryption_key_file": str(keys),
            "public_url": "https://auth.test",
            "dashboard_url": "https://dashboard.test",
        }
        write(file, configured(auth=auth, groups__auth={"hosts": ["a"]}, jobs={"lease": 2.0}))
        proxy = Proxy(database.runtime_url)
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.serve)

            def start(name: str, url: str) -> Any:
                extra = {
                    "TROUPE_DATABASE__URL": database.owner_url,
                    "TROUPE_DATABASE__RUNTIME_URL": url,
                }
                options = ["--host", name]
                running = site(
                    tmp_path, name=name, file=file, options=options, extra=extra, wait=False
                )
                return stack.enter_context(running)

            a, b = start("a", database.runtime_url), start("b", proxy.url)
            for host in (a, b):
                await trio.to_thread.run_sync(host.ready)
            options = {
                "TROUPE_DATABASE__URL": database.owner_url,
                "TROUPE_DATABASE__RUNTIME_URL": database.runtime_url,
            }
            made = await trio.to_thread.run_sync(lambda: a.tenant(extra=options))
            tenant = made[0]
            async with open_bridge(), open_database(database.runtime_url, connections=2) as pool:
                await enqueue_steps(pool, tenant, 32, steps=60, pause=0.25, attempts=5)
                await trio.sleep(3)
                proxy.silence()
                proxy.silences_new = True
                done = await finished(pool, tenant, 32)
                assert all(job.result["committed"] == 60 for job in done)  # type: ignore[index,call-overload]
                assert sum(job.attempt > 1 for job in done) >= 4  # b had begun some
                while True:
                    known = (await ask(a.state, AskStatus(), deadline=10))["hosts"]
                    states = {host["host"]: host["state"] for host in known}
                    if states == {"a": "running", "b": "silent"}:
                        break
                    await trio.sleep(0.5)
                proxy.silences_new = False  # and it comes back by itself
                while True:
                    known = (await ask(a.state, AskStatus(), deadline=10))["hosts"]
                    if all(host["state"] == "running" for host in known):
                        break
                    await trio.sleep(0.5)
                again = await finished(pool, tenant, 32)
                assert [job.result for job in again] == [job.result for job in done]
            nursery.cancel_scope.cancel()
