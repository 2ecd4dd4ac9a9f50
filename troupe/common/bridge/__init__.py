"""asyncio libraries inside a trio program: ``async with open_bridge(): await aio(coroutine)``.

How it works and what was rejected stands in ``_host``.
"""

from troupe.common.bridge._channels import ToTrio, call_trio, from_trio
from troupe.common.bridge._host import (
    AbandonedInAsyncio,
    BridgeMisuse,
    CancelledInAsyncio,
    aio,
    aio_soon,
    open_bridge,
)

__all__ = [
    "AbandonedInAsyncio",
    "BridgeMisuse",
    "CancelledInAsyncio",
    "ToTrio",
    "aio",
    "aio_soon",
    "call_trio",
    "from_trio",
    "open_bridge",
]
