"""Waiting on PostgreSQL: LISTEN on connections that do nothing else, so that it costs nothing."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, exc

from kombu_core.exceptions import ConnectionLostError
from kombu_core.virtual.tables import soonest
from kombu_sqlalchemy.database import Database
from kombu_sqlalchemy.postgresql import PostgreSQLQueries

#: Longest sleep in seconds: then the queues are looked at, should a notification be lost.
_SLICE: Final = 5.0
#: Channels that are listened to and not wanted any more, before they are given up.
_SPARE: Final = 64


class _Ear:
    """One connection that listens."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.driver: Any = connection.connection.driver_connection
        self.channels: set[str] = set()

    def listen(self, wanted: set[str]) -> None:
        """Listen to these channels, at least."""
        spare = self.channels - wanted
        words = [f'LISTEN "{channel}"' for channel in sorted(wanted - self.channels)]
        if len(spare) > _SPARE:
            words += [f'UNLISTEN "{channel}"' for channel in sorted(spare)]
            self.channels -= spare
        if words:
            self.connection.exec_driver_sql("; ".join(words))
            self.channels |= wanted

    def close(self) -> None:
        """Disconnect: it listens, so it is of no use to others."""
        self.connection.invalidate()
        self.connection.close()

    def heard(self) -> set[str]:
        """Return the channels of the notifications that came, without waiting for any."""
        self.driver.pgconn.consume_input()
        found = set()
        while (note := self.driver.pgconn.notifies()) is not None:
            found.add(note.relname.decode())
        return found


class ListeningWaiter:
    """Each thread that waits has a connection for it; they are kept for the next time."""

    def __init__(self, database: Database, queries: PostgreSQLQueries) -> None:
        self._database = database
        self._queries = queries
        self._is_closed = threading.Event()
        self._begin()
        database.after_fork(self._forked)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Ear] = []
        self._busy = 0
        self._wakeup = socket.socketpair()

    def _forked(self) -> None:
        # The parent's: kept, for what is collected says goodbye to the server.
        self._inherited = self._idle
        for end in self._wakeup:
            end.close()
        self._begin()

    def announce(self) -> None:
        """Nothing: the database tells of it."""

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if not queues:
            self._is_closed.wait(timeout)
            return False
        ear = self._take()
        if ear is None:
            return False
        is_whole = False
        try:
            found = self._listen(ear, list(queues), deadline)
            is_whole = True
            return found
        except exc.SQLAlchemyError as error:
            raise self._database.translate(error) from error
        except self._database.driver_error as error:
            raise ConnectionLostError(str(error)) from error
        finally:
            self._give_back(ear, is_whole=is_whole)

    def _listen(self, ear: _Ear, queues: list[str], deadline: float) -> bool:
        wanted = {self._queries.channel(queue) for queue in queues}
        ear.listen(wanted)
        with selectors.DefaultSelector() as selector:
            selector.register(ear.driver.fileno(), selectors.EVENT_READ)
            selector.register(self._wakeup[0], selectors.EVENT_READ)
            while not self._is_closed.is_set():
                ear.heard()  # What came before the look at the queues tells nothing new.
                left = soonest(self._queries.peek(ear.connection, queues))
                if left <= 0:
                    return True
                until = time.monotonic() + min(left, _SLICE)
                # Notifications that came with the answer are in the driver already.
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

    def _take(self) -> _Ear | None:
        with self._lock:
            if self._is_closed.is_set():
                return None
            self._busy += 1
            if self._idle:
                return self._idle.pop()
        try:
            return _Ear(self._database.connect())
        except BaseException:
            self._give_back(None, is_whole=False)
            raise

    def _give_back(self, ear: _Ear | None, *, is_whole: bool) -> None:
        with self._lock:
            self._busy -= 1
            if ear is not None and is_whole and not self._is_closed.is_set():
                self._idle.append(ear)
                return
            self._close_sockets()
        if ear is not None:
            ear.close()

    def close(self) -> None:
        with self._lock:
            if not self._is_closed.is_set():
                self._is_closed.set()
                self._wakeup[1].send(b"x")
            self._close_sockets()
            idle, self._idle = self._idle, []
        for ear in idle:
            ear.close()

    def _close_sockets(self) -> None:
        """Close them if nobody needs them any more; the lock is held."""
        if self._is_closed.is_set() and not self._busy:
            for end in self._wakeup:
                end.close()
