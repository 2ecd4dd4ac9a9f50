"""``python -m ops.bench.reports.sink``: a mail server that counts and keeps nothing.

It prints its port, and with each line on its input what it has taken so far: mails, different
recipients, bytes.
"""

import asyncio
import json
import sys

from aiosmtpd.smtp import SMTP, Envelope, Session


class Count:
    """What was taken."""

    def __init__(self) -> None:
        self.mails = 0
        self.size = 0
        self.recipients: set[str] = set()

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name for the command's hook
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Count one mail."""
        self.mails += 1
        self.size += len(envelope.content or b"")
        self.recipients.update(envelope.rcpt_tos)
        return "250 2.0.0 Counted"


async def main() -> None:
    """Serve until the input ends."""
    loop, count = asyncio.get_running_loop(), Count()
    server = await loop.create_server(
        lambda: SMTP(count, hostname="sink.example", loop=loop), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps([count.mails, len(count.recipients), count.size]), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
