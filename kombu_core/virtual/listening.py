"""Waiting on databases that announce what is committed, as PostgreSQL with LISTEN and NOTIFY.

A plugin gives the connections that listen; when to listen, to look and to sleep is said here.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Any, Final, Protocol

from kombu_core.virtual.tables import QueueState, soonest

#: Longest sleep in seconds: then the queues are looked at, should a notification be lost.
_SLICE: Final = 5.0
#: Seconds after which a connection that nobody waits by is closed: while it listens, what it is
#: told piles up, at last in the database.
_IDLE: Final = 10.0
#: Channels that are listened to and not wanted any more, before they are given up.
_SPARE: Final = 64


def channel_of(table: str, queue: str) -> str:
    """Return what is notified of a queue in a table: of any text a valid name of a channel."""
    there = blake2b(table.encode(), digest_size=4).hexdigest()
    return f"kombu_{there}_{blake2b(queue.encode(), digest_size=12).hexdigest()}"


class Ear(Protocol):
    """A connection that listens. One thread at a time uses it; each method raises our errors."""

    def fileno(self) -> int:
        """Return the file that can be read from when a notification comes."""
        ...

    def execute(self, statements: str) -> None:
        """Run statements without parameters, separated by semicolons."""
        ...

    def peek(self, queues: Collection[str]) -> list[QueueState]:
        """See `kombu_core.virtual.tables.Queries.peek`."""
        ...

    def heard(self) -> set[str]:
        """Return the channels of the notifications since the last call; waits for none."""
        ...

    def close(self) -> None:
        """Disconnect: it listens, so it is of no use to others."""
        ...


class Notifications:
    """What a connection of psycopg 3 was notified of.

    Args:
        driver: The connection; psycopg's own errors come from here as they are.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._noted: set[str] = set()
        noted = self._noted
        # Those that come together with the answer to a statement are given to handlers only.
        driver.add_notify_handler(lambda note: noted.add(note.channel))

    def fileno(self) -> int:
        """Return the number of the socket."""
        return int(self._driver.fileno())

    def heard(self) -> set[str]:
        """Return the channels of those that came since the last call, without waiting for any."""
        wire = self._driver.pgconn
        wire.consume_input()
        while (note := wire.notifies()) is not None:
            self._noted.add(note.relname.decode())
        found = set(self._noted)
        self._noted.clear()
        return found


class ListeningWaiter:
    """Each thread that waits has a connection for it; they are kept for the next time.

    Args:
        open_ear: Makes such a connection.
        channel: Returns what is notified of a queue.
    """

    def __init__(self, open_ear: Callable[[], Ear], channel: Callable[[str], str]) -> None:
        self._open_ear = open_ear
        self._channel = channel
        self._is_closed = threading.Event()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: With the channels that they listen to, and since when (monotonic seconds).
        self._idle: list[tuple[Ear, set[str], float]] = []
        self._busy = 0
        self._wakeup = socket.socketpair()

    def forked(self) -> None:
        """Leave the parent's connections alone; to be called first in a forked child."""
        # Kept, for what is collected says goodbye to the server.
        self._inherited = self._idle
        for end in self._wakeup:
            end.close()
        self._begin()

    def announce(self) -> None:
        """Nothing: the database tells of it."""

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        """See `kombu_core.virtual.store.Store.wait`."""
        deadline = time.monotonic() + timeout
        if not queues:
            self._is_closed.wait(timeout)
            return False
        taken = self._take()
        if taken is None:
            return False
        ear, channels = taken
        is_whole = False
        try:
            wanted = {self._channel(queue) for queue in queues}
            _listen(ear, channels, wanted)
            found = self._wait(ear, wanted, queues, deadline)
            is_whole = True
            return found
        finally:
            self._give_back(taken, is_whole=is_whole)

    def _wait(self, ear: Ear, wanted: set[str], queues: Collection[str], deadline: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(ear.fileno(), selectors.EVENT_READ)
            selector.register(self._wakeup[0], selectors.EVENT_READ)
            while not self._is_closed.is_set():
                ear.heard()  # What came before the look at the queues tells nothing new.
                left = soonest(ear.peek(queues))
                if left <= 0:
                    return True
                until = time.monotonic() + min(left, _SLICE)
                # Notifications that came with the answer are no news for the selector.
                if ear.heard() & wanted:
                    return True
                while not self._is_closed.is_set():
                    left = min(until, deadline) - time.monotonic()
                    if left <= 0:
                        break
                    if selector.select(left) and ear.heard() & wanted:
                        return True
                if time.monotonic() >= deadline:
                    return False
        return False

    def _take(self) -> tuple[Ear, set[str]] | None:
        with self._lock:
            if self._is_closed.is_set():
                return None
            self._busy += 1
            if self._idle:
                ear, channels, _ = self._idle.pop()
                return ear, channels
        try:
            return self._open_ear(), set()
        except BaseException:
            self._give_back(None, is_whole=False)
            raise

    def _give_back(self, taken: tuple[Ear, set[str]] | None, *, is_whole: bool) -> None:
        with self._lock:
            self._busy -= 1
            if taken is not None and is_whole and not self._is_closed.is_set():
                self._idle.append((*taken, time.monotonic()))
                return
            self._close_sockets()
        if taken is not None:
            taken[0].close()

    def tidy(self) -> None:
        """Close the connections that nobody waited by for a while."""
        with self._lock:
            latest = time.monotonic() - _IDLE
            old = [ear for ear, _, since in self._idle if since < latest]
            self._idle = [one for one in self._idle if one[2] >= latest]
        for ear in old:
            ear.close()

    def close(self) -> None:
        """Wake who waits, for good. Idempotent."""
        with self._lock:
            if not self._is_closed.is_set():
                self._is_closed.set()
                self._wakeup[1].send(b"x")
            self._close_sockets()
            idle, self._idle = self._idle, []
        for ear, *_ in idle:
            ear.close()

    def _close_sockets(self) -> None:
        """Close them if nobody needs them any more; the lock is held."""
        if self._is_closed.is_set() and not self._busy:
            for end in self._wakeup:
                end.close()


def _listen(ear: Ear, channels: set[str], wanted: set[str]) -> None:
    """Let an ear listen to what is wanted, at least; `channels` is what it listens to."""
    spare = channels - wanted
    words = [f'LISTEN "{channel}"' for channel in sorted(wanted - channels)]
    if len(spare) > _SPARE:
        words += [f'UNLISTEN "{channel}"' for channel in sorted(spare)]
        channels -= spare
    if words:
        ear.execute("; ".join(words))
        channels |= wanted
