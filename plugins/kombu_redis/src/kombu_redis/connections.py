"""The way to one Redis: connections that threads take in turn, scripts, and errors at the border.

redis-py's connection does the talking. Its pool is not used: its bookkeeping and its look at the
socket before each command cost as much as the command. A connection that rested for a while is
asked before it is used again, so one that the server dropped meanwhile does no harm.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, NoReturn, Protocol, Self

import redis.exceptions as driver

from kombu_core.exceptions import (
    AccessRefusedError,
    AuthenticationError,
    BrokerError,
    ConnectError,
    ConnectionLimitExceededError,
    ConnectionLostError,
    OperationalError,
    map_errors,
)
from kombu_core.url import Secret

Word = str | bytes | int
#: In the order that `map_errors` wants: the specific first.
ErrorMap = Mapping[type[BaseException], type[BrokerError]]

_OPENING: Final[ErrorMap] = {
    driver.AuthenticationError: AuthenticationError,
    driver.AuthorizationError: AuthenticationError,
    driver.AuthenticationWrongNumberOfArgsError: AuthenticationError,
    driver.NoPermissionError: AuthenticationError,
    driver.ConnectionError: ConnectError,
    driver.TimeoutError: ConnectError,
    OSError: ConnectError,
    driver.RedisError: BrokerError,
}
_OPEN: Final[ErrorMap] = {
    driver.AuthenticationError: AuthenticationError,
    driver.AuthorizationError: AuthenticationError,
    driver.NoPermissionError: AccessRefusedError,
    driver.ConnectionError: ConnectionLostError,
    driver.TimeoutError: ConnectionLostError,
    OSError: ConnectionLostError,
    driver.RedisError: BrokerError,
}
#: The server answers, and is not the one to talk to now: a replica, a restart, a failover.
_AWAY_TYPES: Final = (driver.ReadOnlyError, driver.ClusterDownError)
_AWAY: Final = re.compile(r"(?:^|-)(?:READONLY|LOADING|CLUSTERDOWN|MASTERDOWN|UNBLOCKED) ")
#: It will not do this now: no memory, no disk, no replica, a script that takes too long.
_BUSY_TYPES: Final = (driver.OutOfMemoryError, driver.TryAgainError)
_BUSY: Final = re.compile(r"(?:^|-)(?:OOM|TRYAGAIN|MISCONF|NOREPLICAS|BUSY) ")


class Wire(Protocol):
    """What is used of `redis.connection.AbstractConnection`, which has no annotations."""

    #: Its socket while it is connected. There is no public way to end a read from outside.
    _sock: socket.socket | None

    def connect(self) -> None:
        """Connect, authenticate and select the database."""
        ...

    def pack_command(self, *args: Word) -> list[bytes]:
        """Return the command in the protocol's form."""
        ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None:
        """Write it."""
        ...

    def read_response(self) -> Any:
        """Read one reply; raise it if it is an error."""
        ...

    def disconnect(self) -> None:
        """Close the socket; in a forked child, only the child's end of it."""
        ...


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, called by its digest and sent whole only where the server lacks it."""

    name: str
    source: str = field(repr=False)
    sha: str

    @classmethod
    def load(cls, name: str) -> Self:
        """Read a script of this package, the prelude in front."""
        folder = files(__package__) / "scripts"
        parts = [(folder / f"{part}.lua").read_text("utf-8") for part in ("prelude", name)]
        source = "\n".join(parts)
        # The digest is Redis' name for the script, no protection.
        return cls(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class RedisConnections:
    """All connections of one store. Thread-safe; after a fork the child opens its own.

    No command is ever sent twice by itself: a lost connection in the middle of one means that
    nobody knows whether it was done, and only the caller knows whether doing it twice is right.

    Args:
        make: Makes an unconnected connection that retries nothing.
        secrets: Texts that must not show in errors.
        rest: Seconds after which an idle connection is asked whether it is alive.
        limit: How many may be open at a time; None: any number.
        patience: Seconds to wait for one if all are in use.
    """

    def __init__(
        self,
        make: Callable[[], Wire],
        *,
        secrets: Sequence[Secret] = (),
        rest: float = 5.0,
        limit: int | None = None,
        patience: float = 10.0,
    ) -> None:
        self._make = make
        self._secrets = tuple(secrets)
        self._rest = rest
        self._limit = limit
        self._patience = patience
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        #: Last in, first out, with the time of their last use. Only `append` and `pop` touch it,
        #: both atomic, so the way of every command takes no lock.
        self._idle: list[tuple[Wire, float]] = []
        self._waiting: set[Wire] = set()
        self._slots = threading.BoundedSemaphore(self._limit) if self._limit else None

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def open(self) -> None:
        """Connect once, to learn now what is wrong with the address or the credentials.

        Raises:
            ConnectError: There is no server, or it is not ready.
            AuthenticationError: It refused the credentials.
        """
        wire = self._take()
        try:
            wire.send_packed_command(wire.pack_command(b"PING"))
            wire.read_response()
        except (driver.RedisError, OSError) as exc:
            self._discard(wire)
            self._fail(exc, _OPENING)
        self._give_back(wire)

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Word] = ()) -> Any:
        """Run a script in one round trip and return its reply."""
        return self._call((b"EVALSHA", script.sha, len(keys), *keys, *args), script)

    def call(self, *command: Word) -> Any:
        """Run one command and return its reply."""
        return self._call(command)

    def block(self, *command: Word) -> Any:
        """Run a command that blocks in the server; `close` ends it with ConnectionLostError."""
        wire = self._take()
        try:
            return self._exchange(wire, command, is_blocking=True)
        finally:
            self._waiting.discard(wire)

    def close(self) -> None:
        """Close what is idle or blocked; a command on its way is let finish. Idempotent."""
        self._is_closed = True
        for wire in tuple(self._waiting) if self._pid == os.getpid() else ():
            if (connection := wire._sock) is not None:
                # Its reader meets the end of the stream and puts the rest away.
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self._close_idle()

    # -- one command -----------------------------------------------------------------------

    def _call(self, command: Sequence[Word], script: Script | None = None) -> Any:
        return self._exchange(self._take(), command, script)

    def _exchange(
        self,
        wire: Wire,
        command: Sequence[Word],
        script: Script | None = None,
        *,
        is_blocking: bool = False,
    ) -> Any:
        try:
            try:
                wire.send_packed_command(wire.pack_command(*command), check_health=False)
                if is_blocking:
                    self._waiting.add(wire)
                    # Looked at after it was added: `close` sees the one or we see the other.
                    if self._is_closed:
                        raise driver.ConnectionError("The connection is closed")
                reply = wire.read_response()
            except driver.NoScriptError:
                if script is None:
                    raise
                # The server is new, or forgot: this sends the script, and it is kept from now on.
                whole = (b"EVAL", script.source, *command[2:])
                wire.send_packed_command(wire.pack_command(*whole), check_health=False)
                reply = wire.read_response()
        except driver.ResponseError as exc:
            # By type where the driver has one; before Redis 7 an error of a command in a script
            # comes as text in another error.
            text = str(exc)
            if isinstance(exc, _AWAY_TYPES) or _AWAY.search(text):
                self._discard(wire)
                self._fail(exc, {driver.RedisError: ConnectionLostError})
            self._give_back(wire)
            is_busy = isinstance(exc, _BUSY_TYPES) or _BUSY.search(text)
            self._fail(exc, {driver.RedisError: OperationalError} if is_busy else _OPEN)
        except (driver.RedisError, OSError) as exc:
            self._discard(wire)
            self._fail(exc, _OPEN)
        except BaseException:
            # Interrupted between question and answer: the next user would read this answer.
            self._discard(wire)
            raise
        self._give_back(wire)
        return reply

    def _fail(self, error: BaseException, mapping: ErrorMap) -> NoReturn:
        with self._mapped(mapping):
            raise error
        raise AssertionError("unreachable")

    def _mapped(self, mapping: ErrorMap) -> AbstractContextManager[None]:
        return map_errors(mapping, redact=self._secrets)

    # -- taking turns ----------------------------------------------------------------------

    def _take(self) -> Wire:
        if self._pid != os.getpid():
            # Dropping them closes the child's ends only; the parent goes on with its own.
            self._begin()
        if self._is_closed:
            raise ConnectionLostError("The connection is closed")
        if self._slots is not None and not self._slots.acquire(timeout=self._patience):
            raise ConnectionLimitExceededError(f"All {self._limit} connections are in use")
        try:
            while True:
                try:
                    wire, since = self._idle.pop()
                except IndexError:
                    return self._connect()
                if time.monotonic() - since < self._rest or self._is_alive(wire):
                    return wire
        except BaseException:
            self._free_slot()
            raise

    def _connect(self) -> Wire:
        try:
            wire = self._make()
            wire.connect()
        except (driver.RedisError, OSError) as exc:
            self._fail(exc, _OPENING)
        return wire

    def _is_alive(self, wire: Wire) -> bool:
        try:
            wire.send_packed_command(wire.pack_command(b"PING"), check_health=False)
            wire.read_response()
        except (driver.RedisError, OSError):
            wire.disconnect()
            return False
        return True

    def _give_back(self, wire: Wire) -> None:
        self._idle.append((wire, time.monotonic()))
        self._free_slot()
        if self._is_closed:
            self._close_idle()

    def _discard(self, wire: Wire) -> None:
        wire.disconnect()
        self._free_slot()
        # What broke one has broken the others: they lead to the same server.
        self._close_idle()

    def _free_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()

    def _close_idle(self) -> None:
        while True:
            try:
                wire, _ = self._idle.pop()
            except IndexError:
                return
            wire.disconnect()
