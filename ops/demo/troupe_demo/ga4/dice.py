"""Seeded chance: the one source of randomness of the generator.

Only `random.random` and arithmetic on it are used. Its sequence for a seed is promised by the
standard library for all versions of Python, which is not so for `shuffle`, `gauss` and the others,
and it is the fastest call there is.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class Wheel(Generic[T]):
    """Values with weights, to be drawn in proportion."""

    __slots__ = ("_cumulative", "_values")

    def __init__(self, weighted: Iterable[tuple[T, float]]) -> None:
        pairs = list(weighted)
        self._values = [value for value, _ in pairs]
        self._cumulative = list(accumulate(weight for _, weight in pairs))

    def at(self, position: float) -> T:
        """The value at `position`, 0 ≤ position < 1, of the wheel's circumference."""
        index = bisect_right(self._cumulative, position * self._cumulative[-1])
        return self._values[min(index, len(self._values) - 1)]


class Dice:
    """All draws of one tenant, repeatable by `seed`."""

    __slots__ = ("random",)

    def __init__(self, seed: str) -> None:
        generator = random.Random(seed)  # noqa: S311 - it simulates shoppers, it keeps no secret
        self.random = generator.random
        """A float in [0, 1)."""

    def chance(self, probability: float) -> bool:
        """True with `probability`."""
        return self.random() < probability

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return int(self.random() * limit)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high)."""
        return low + int(self.random() * (high - low))

    def pick(self, values: Sequence[T]) -> T:
        """One of `values`, all alike."""
        return values[int(self.random() * len(values))]

    def spin(self, wheel: Wheel[T]) -> T:
        """One of the wheel's values, by weight."""
        return wheel.at(self.random())

    def waiting(self, mean: float) -> float:
        """A waiting time, exponentially distributed, of the unit of `mean`."""
        return -mean * math.log(1.0 - self.random())
