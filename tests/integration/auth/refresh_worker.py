"""``python -m tests.integration.auth.refresh_worker URL MODE``: a process that refreshes sessions.

``steady`` refreshes what is due, all the time. ``doomed`` kills itself (SIGKILL) when the provider
has answered and before the answer is committed.
"""

import os
import signal
import sys

import trio

from tests.integration.auth.site import KEYS, LOOPBACK
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.refreshes import Claim, Refresher, RefreshSettings
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.session_tokens import SessionTokens
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.common.secrets import Vault

LEASE = 2.0
SETTINGS = RefreshSettings(confirm=3600, unconfirmed=100_000)


class Doomed(Refresher):
    """Dies with the answer in its hands."""

    async def _keep(self, claim: Claim, tokens: SessionTokens) -> None:
        assert claim.session
        assert tokens.refresh_token
        os.kill(os.getpid(), signal.SIGKILL)
        await trio.sleep_forever()


async def main(url: str, mode: str) -> None:
    kind = Doomed if mode == "doomed" else Refresher
    async with (
        open_bridge(),
        open_database(url, connections=2, application_name="refresh worker") as database,
        PeerHttp(LOOPBACK) as http,
    ):
        refresher = kind(database, Vault(KEYS), RelyingParty(http), SETTINGS, lease=LEASE)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            await refresher.refresh_due()
            await trio.sleep(0.02)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
