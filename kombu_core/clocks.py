"""A logical clock, to order events of several processes without trusting their wall clocks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

__all__ = ["LamportClock", "timetuple"]

E = TypeVar("E", bound=Sequence[Any])


class timetuple(tuple[Any, ...]):  # noqa: N801 (kombu's name; the next line has them)
    """An event of some process, ordered by its logical clock; belongs into a heap.

    Two events of the same clock are ordered by `id`; if one has no clock (None or 0), by
    `timestamp`.

    Args:
        clock: Value of the process's `LamportClock`.
        timestamp: Seconds since 1970 by its wall clock.
        id: Which process, as `host:pid`.
        obj: Anything; not compared.
    """

    __slots__ = ()

    def __new__(cls, clock: int | None, timestamp: float, id: str, obj: Any = None) -> timetuple:
        return super().__new__(cls, (clock, timestamp, id, obj))

    @property
    def clock(self) -> int | None:
        """Logical time, None if the process has no such clock."""
        found: int | None = self[0]
        return found

    @property
    def timestamp(self) -> float:
        """Seconds since 1970."""
        found: float = self[1]
        return found

    @property
    def id(self) -> str:
        """Which process."""
        found: str = self[2]
        return found

    @property
    def obj(self) -> Any:
        """What belongs to the event."""
        return self[3]

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        if len(other) < 3:
            return NotImplemented
        if self[0] and other[0]:
            return bool((self[0], self[2]) < (other[0], other[2]))
        return bool(self[1] < other[1])

    def __gt__(self, other: tuple[Any, ...]) -> bool:
        return timetuple.__lt__(timetuple(*other), self)

    def __le__(self, other: tuple[Any, ...]) -> bool:
        return not self > other

    def __ge__(self, other: tuple[Any, ...]) -> bool:
        return not self < other

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        clock, timestamp, ident, obj = self
        return f"timetuple(clock={clock}, timestamp={timestamp}, id={ident!r}, obj={obj!r})"


class LamportClock:
    """Lamport's logical clock: a counter that is never behind what it was told. Thread-safe.

    Call `forward` when something is sent, and send the value along; call `adjust` with the value
    that came. If one event can have caused another, its value is the smaller one. Neither blocks
    longer than an addition takes.

    Args:
        initial_value: Where it begins.
        Lock: Makes the lock that guards it.
    """

    def __init__(
        self,
        initial_value: int = 0,
        Lock: Callable[[], AbstractContextManager[Any]] = threading.Lock,  # noqa: N803 (kombu's)
    ) -> None:
        self.value = initial_value
        self.mutex = Lock()

    def adjust(self, other: int) -> int:
        """Step past a value that came with a message; return the new one."""
        with self.mutex:
            self.value = max(self.value, other) + 1
            return self.value

    def forward(self) -> int:
        """Step on by one, as for a message that is sent; return the new value."""
        with self.mutex:
            self.value += 1
            return self.value

    def sort_heap(self, h: Sequence[E]) -> E:
        """Return which of some events, sorted by their clock, counts as the first.

        Args:
            h: At least one; of each, the first item is the clock and the second names the process.
                Among those that share the first clock, the smallest name decides.
        """
        clock = h[0][0]
        equal = [event for event in h if event[0] == clock]
        return min(equal, key=lambda event: event[1])

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"<LamportClock: {self.value}>"
