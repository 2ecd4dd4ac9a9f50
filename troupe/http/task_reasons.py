"""Why a task is listed, and what its points are for, in words."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.tasks import Task

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "value": "There is money at stake",
        "customer": "A known customer",
        "reachable": "Can be called or written to",
        "first_purchase": "Their first purchase",
        "many_items": "Several products left",
        "failed_searches": "Searched and found nothing",
    }
)
"""Every reason that the database gives points for."""


def why(task: Task) -> str:
    """One sentence, with the figures that it rests on."""
    sentence = _SENTENCES[task.kind](task)
    if task.settled_at is not None:
        sentence += " Bought since."
    return sentence


def _purchase(task: Task) -> str:
    amount = f"{task.value:,.2f} {task.currency}"
    first = " for the first time" if task.facts["first_purchase"] else ""
    return f"Bought{first} for {amount}."


def _cart(task: Task) -> str:
    left = task.facts["items_left"]
    products = "one product" if left == 1 else f"{left} products"
    idle = round((task.raised_at - task.happened_at) / timedelta(hours=1))
    return f"Left {products} in the cart and did nothing with it for {idle} hours."


def _search(task: Task) -> str:
    failed = task.facts["failed_searches"]
    times = "once" if failed == 1 else f"{failed} times"
    return f"Searched for “{task.title}” and found nothing, {times}."


def _visits(task: Task) -> str:
    days = max(1, -(-(task.happened_at - task.began_at) // timedelta(days=1)))
    within = "a day" if days == 1 else f"{days} days"
    return f"Came {task.facts['visits']} times within {within} without buying anything."


_SENTENCES: Final[Mapping[TaskKind, Callable[[Task], str]]] = MappingProxyType(
    {
        TaskKind.PURCHASES: _purchase,
        TaskKind.CARTS: _cart,
        TaskKind.SEARCHES: _search,
        TaskKind.VISITS: _visits,
    }
)
