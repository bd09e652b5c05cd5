"""Waiting on databases that announce nothing: an event for this process, a poll for the others."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection
from typing import Final, Generic, Protocol, TypeVar

from kombu_core.virtual.tables import Database, Queries, soonest

C = TypeVar("C")

#: Seconds between two looks: at first, and when nothing came for a while.
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.03
#: How much longer each pause is.
_GROWTH: Final = 1.25


class Bell(threading.Condition):
    """What the stores of this process that share their tables wait for and ring."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())
        self.rung = 0

    def ring(self) -> None:
        """Wake all who wait."""
        with self:
            self.rung += 1
            self.notify_all()


class Waiter(Protocol):
    """One database's way of waiting."""

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        """See `kombu_core.virtual.store.Store.wait`."""
        ...

    def announce(self) -> None:
        """Something came in, by a transaction that is committed."""
        ...

    def tidy(self) -> None:
        """Let go of what nobody used for a while; called from time to time."""
        ...

    def close(self) -> None:
        """Wake who waits, for good."""
        ...


class PollingWaiter(Generic[C]):
    """Looks whether something changed, seldom enough to cost nothing; and listens to the bell.

    Args:
        database: Where to look.
        queries: How.
        place: Of the tables: those who share it share a bell.
        glance: Returns a number that changes when the database does, for next to nothing; None:
            the queues are looked at each time.
    """

    def __init__(
        self,
        database: Database[C],
        queries: Queries[C],
        place: str,
        glance: Callable[[C], int] | None = None,
    ) -> None:
        self._database = database
        self._queries = queries
        self._place = place
        self._glance = glance
        self._is_closed = False
        self._find_bell()
        database.after_fork(self._find_bell)

    def _find_bell(self) -> None:
        self._bell = _bell_of(self._place)

    def announce(self) -> None:
        self._bell.ring()

    def tidy(self) -> None:
        pass

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if not queues:
            self._sleep(self._bell.rung, deadline, timeout, ignores_bell=True)
            return False
        if self._is_closed:
            return False
        names = list(queues)
        with self._database.watching() as connection:
            pause = _FIRST_PAUSE
            seen = -1
            due = 0.0
            while not self._is_closed:
                rung = self._bell.rung
                now = time.monotonic()
                glanced = self._glance(connection) if self._glance is not None else seen + 1
                if glanced != seen or now >= due:
                    seen = glanced
                    due = now + soonest(self._queries.peek(connection, names))
                    if due <= now:
                        return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._sleep(rung, deadline, min(left, pause, max(0.001, due - now)))
                if self._bell.rung != rung:
                    seen = -1
                pause = min(_GROWTH * pause, _LONGEST_PAUSE)
        return False

    def _sleep(
        self, rung: int, deadline: float, pause: float, *, ignores_bell: bool = False
    ) -> None:
        with self._bell:
            while not self._is_closed:
                left = min(deadline - time.monotonic(), pause)
                if left <= 0 or (self._bell.rung != rung and not ignores_bell):
                    return
                self._bell.wait(left)
                if not ignores_bell:
                    return

    def close(self) -> None:
        self._is_closed = True
        self._bell.ring()


_bells: Final[weakref.WeakValueDictionary[str, Bell]] = weakref.WeakValueDictionary()
_bells_lock = threading.Lock()


def _bell_of(place: str) -> Bell:
    with _bells_lock:
        bell = _bells.get(place)
        if bell is None:
            bell = _bells[place] = Bell()
        return bell


def _after_fork() -> None:
    global _bells_lock
    _bells_lock = threading.Lock()
    _bells.clear()


# Registered before that of the databases, and so called before it.
os.register_at_fork(after_in_child=_after_fork)
