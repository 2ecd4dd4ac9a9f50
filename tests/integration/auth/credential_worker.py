"""``python -m tests.integration.auth.credential_worker URL KIND SECRET``: another process.

It resolves one credential over and over, as a group does that is asked all the time, says ``in``
when it is good for the first time, and ``out`` when it is not any more.
"""

import sys

import trio

from tests.integration.auth.site import KEYS, LOOPBACK
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.provider_tokens import ProviderTokens
from troupe.actors.auth.relying_party import RelyingParty
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.common.secrets import Vault
from troupe.http.credentials import Credentials


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, kind: str, secret: str) -> None:
    async with (
        open_bridge(),
        open_database(url, connections=1, application_name="credential worker") as database,
        PeerHttp(LOOPBACK) as http,
    ):
        tokens = ProviderTokens(database, Vault(KEYS), RelyingParty(http))
        credentials = Credentials(database, provider_tokens=tokens)
        given = (secret, None) if kind == "bearer" else (None, secret)
        said = ""
        while said != "out":
            now = "in" if await credentials.resolve(*given, None) is not None else "out"
            if now != said:
                say(now)
            said = now
            await trio.sleep(0.01)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
