"""All connections of one store: threads take them in turn, and give them back.

beanstalkd does one command of a connection after the other, so whoever blocks has one of its own.
A claim belongs to the connection that reserved the job, and is given back by the server at once if
that is lost.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import monotonic
from types import TracebackType
from typing import Final, Literal

from greenstalk import Error as GreenstalkError

from kombu_beanstalk.wire import Reply, Wire, stats
from kombu_core.exceptions import (
    BrokerError,
    ConnectError,
    ConnectionLostError,
    KombuError,
    map_errors,
)

#: What a connection is for: it keeps what it uses and watches.
Role = Literal["talk", "wait", "lock", "empty"]

_OPENING: Final[Mapping[type[BaseException], type[BrokerError]]] = {
    OSError: ConnectError,
    EOFError: ConnectError,
    ValueError: ConnectError,
    GreenstalkError: ConnectError,
}
_OPEN: Final[Mapping[type[BaseException], type[BrokerError]]] = {
    OSError: ConnectionLostError,
    EOFError: ConnectionLostError,
    # What is no reply of the protocol: the two are not in step any more.
    ValueError: ConnectionLostError,
    GreenstalkError: ConnectionLostError,
}
#: An idle connection is looked at before it is used if it rested for longer (seconds).
_REST: Final = 0.2
#: The oldest beanstalkd that can reserve a job by its id.
_OLDEST: Final = (1, 12)


class Wires:
    """Connections to one server. Thread-safe; after a fork the child opens its own.

    No command is ever sent twice by itself: a lost connection in the middle of one means that
    nobody knows whether it was done.

    Args:
        connect: Makes a connected socket with its timeout set.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._is_closed = threading.Event()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        #: Last in, first out, with the time of their last use; `append` and `pop` are atomic.
        self._idle: dict[Role, list[tuple[Wire, float]]] = {
            "talk": [],
            "wait": [],
            "lock": [],
            "empty": [],
        }
        self._waiting: set[Wire] = set()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed.is_set()

    @property
    def is_foreign(self) -> bool:
        """Whether this is a forked child, and the open connections are the parent's."""
        return self._pid != os.getpid()

    def open(self) -> dict[str, str]:
        """Connect, to learn now what is wrong; returns what the server tells of itself.

        Raises:
            ConnectError: There is no beanstalkd, or one that is too old.
        """
        with map_errors(_OPENING):
            wire = self._new()
            try:
                (reply,) = wire.ask([b"stats"])
            except BaseException:
                wire.close()
                raise
        found = stats(reply.body)
        version = found.get("version", "")
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST:
            wire.close()
            raise ConnectError(f"beanstalkd {version} is too old; 1.12 is needed")
        self.give(wire, "talk")
        return found

    def ask(self, commands: Sequence[bytes], enter: str = "") -> list[Reply]:
        """Send commands on any connection, about the tube `enter` if given; one round trip."""
        with self.lent("talk") as wire:
            return wire.ask([*wire.enter(enter), *commands] if enter else commands)

    def lent(self, role: Role) -> AbstractContextManager[Wire]:
        """Lend a connection for several commands."""
        return _Border(self, self.take(role), role, None)

    def at_border(
        self, wire: Wire, on_lost: Callable[[], object] | None = None
    ) -> AbstractContextManager[Wire]:
        """Raise the driver's errors as ours; after one the connection is closed.

        `on_lost` is called then. The connection stays the caller's otherwise.
        """
        return _Border(self, wire, None, on_lost)

    def take(self, role: Role) -> Wire:
        """Return a connection; `give` it back, or `discard` it.

        Raises:
            ConnectError: There is no server.
            ConnectionLostError: `close` was called.
        """
        if self.is_foreign:
            # Dropping them closes the child's ends only; the parent goes on with its own.
            self._begin()
        if self._is_closed.is_set():
            raise ConnectionLostError("The connection is closed")
        idle = self._idle[role]
        while True:
            try:
                wire, since = idle.pop()
            except IndexError:
                with map_errors(_OPENING):
                    return self._new()
            # Nothing was asked, so what there is to read is the end.
            if monotonic() - since < _REST or not wire.is_readable(0):
                return wire
            wire.close()

    def give(self, wire: Wire, role: Role) -> None:
        """Take a connection back."""
        self._idle[role].append((wire, monotonic()))
        if self._is_closed.is_set():
            self.close_idle()

    def discard(self, wire: Wire) -> None:
        """Close a connection: the server takes back what it holds."""
        self._waiting.discard(wire)
        wire.close()

    def wait_closed(self, timeout: float) -> bool:
        """Block until `close`, for `timeout` seconds at most."""
        return self._is_closed.wait(timeout)

    @contextmanager
    def waiting(self, wire: Wire) -> Iterator[None]:
        """Let `close` end what `wire` waits for."""
        # Whoever looks at `is_closed` after this sees it, or is seen by `close`.
        self._waiting.add(wire)
        try:
            yield
        finally:
            self._waiting.discard(wire)

    def close(self) -> None:
        """Close what is idle, end what waits; a command on its way is let finish. Idempotent."""
        self._is_closed.set()
        if not self.is_foreign:
            for wire in tuple(self._waiting):
                wire.shut_down()
        self.close_idle()

    def _new(self) -> Wire:
        sock = self._connect()
        try:
            return Wire(sock)
        except BaseException:
            sock.close()
            raise

    def close_idle(self) -> None:
        """Close the connections that nobody uses; new ones are made when they are needed."""
        for idle in self._idle.values():
            while True:
                try:
                    wire, _ = idle.pop()
                except IndexError:
                    break
                wire.close()


class _Border:
    """Where errors of a connection become ours. A class, as it is on the way of every command."""

    __slots__ = ("_on_lost", "_role", "_wire", "_wires")

    def __init__(
        self, wires: Wires, wire: Wire, role: Role | None, on_lost: Callable[[], object] | None
    ) -> None:
        self._wires = wires
        self._wire = wire
        self._role = role
        self._on_lost = on_lost

    def __enter__(self) -> Wire:
        return self._wire

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, KombuError):
            # Fine, or a refusal, or no matter of this connection: it is in step.
            if self._role is not None:
                self._wires.give(self._wire, self._role)
            return
        self._wires.discard(self._wire)
        # What broke one has broken the others: they lead to the same server.
        self._wires.close_idle()
        if self._on_lost is not None:
            self._on_lost()
        with map_errors(_OPEN):
            raise error
