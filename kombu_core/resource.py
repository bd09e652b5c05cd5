"""Pools: a bounded number of connections or channels that threads take in turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar, cast

from kombu_core.exceptions import (
    ChannelLimitExceededError,
    ConfigurationError,
    ConnectionLimitExceededError,
    KombuError,
    LimitExceededError,
)
from kombu_core.forking import tell_of_forks

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kombu_core.connection import Connection
    from kombu_core.transport import Channel

__all__ = ["ChannelPool", "ConnectionPool", "Resource"]

logger = logging.getLogger(__name__)

R = TypeVar("R")

#: Seconds that a connection is idle after which its broker is asked whether it is still there.
CHECK_AFTER: Final = 5.0


class Resource(Generic[R]):
    """At most `limit` things that somebody uses at a time, kept for the next one. Thread-safe.

    What is taken gets a method `release` that gives it back; a connection is also given back by
    leaving its `with` block. What was found broken is replaced and never handed out. After a fork
    the child begins with an empty pool.

    Args:
        limit: How many there are at most; None or 0 for no limit, and then none is kept.
        preload: How many are made at once.
    """

    #: What `acquire` raises when all are in use.
    LimitExceeded: ClassVar[type[LimitExceededError]] = LimitExceededError

    def __init__(self, limit: int | None = None, preload: int | None = None) -> None:
        self._limit = checked_limit(limit)
        self._closed = False
        self.forked()
        tell_of_forks(self)
        for _ in range(preload or 0):
            self._idle.append((monotonic(), self.new(None)))

    def forked(self) -> None:
        """Begin empty, forgetting what there is without closing it: after a fork."""
        self._condition = threading.Condition()
        #: The last one that was given back is the first one that is handed out.
        self._idle: list[tuple[float, R]] = []
        #: What is in use, by identity; with what is just being made.
        self._busy: dict[int, R] = {}
        self._pending = 0

    # -- what a subclass defines -----------------------------------------------------------

    def new(self, timeout: float | None) -> R:
        """Make one more; what that has to wait for may take some seconds, None for ever."""
        raise NotImplementedError(f"{type(self).__name__} has to define new()")

    def is_usable(self, resource: R, idle: float) -> bool:
        """Whether one may be handed out that was idle for some seconds; 0.0: may be kept."""
        return True

    def close_resource(self, resource: R) -> None:
        """Close one for good."""
        cast(Any, resource).close()

    # -- taking and giving back ------------------------------------------------------------

    def acquire(self, block: bool = False, timeout: float | None = None) -> R:
        """Take one.

        Args:
            block: Wait until one is free.
            timeout: Seconds to wait; None for ever.

        Raises:
            LimitExceededError: All are in use; each pool has its own subclass.
            RuntimeError: The pool is closed.
        """
        deadline = None if timeout is None else monotonic() + timeout
        resource = self._reserve(block, deadline)
        try:
            if resource is None:
                resource = self.new(_left(deadline) if block else 0.0)
        except BaseException:
            self._fill(None)
            raise
        self._fill(resource)
        try:
            cast(Any, resource).release = partial(self.release, resource)
        except AttributeError:
            pass  # It has slots: the pool's own `release` remains.
        return resource

    @contextmanager
    def borrow(self, timeout: float | None = None) -> Iterator[R]:
        """Take one for a `with` block, waiting `timeout` seconds for it; None for ever."""
        resource = self.acquire(block=True, timeout=timeout)
        try:
            yield resource
        finally:
            self.release(resource)

    def _reserve(self, block: bool, deadline: float | None) -> R | None:
        """Wait for a place among those in use; return what is idle, None to make another."""
        with self._condition:
            while True:
                self._check_open()
                if self._idle or self._has_room():
                    break
                left = _left(deadline)
                if not block or left == 0.0:
                    raise self.LimitExceeded(f"All {self._limit} of {self!r} are in use")
                self._condition.wait(left)
            self._pending += 1
            if not self._idle:
                return None
            since, resource = self._idle.pop()
        if self.is_usable(resource, monotonic() - since):
            return resource
        self._drop(resource)
        return None

    def _fill(self, resource: R | None) -> None:
        """Put what was taken into its place, or give the place up (None)."""
        with self._condition:
            self._pending -= 1
            if resource is None:
                self._condition.notify()
            else:
                self._busy[id(resource)] = resource

    def release(self, resource: R) -> None:
        """Give one back. What was not taken from this pool, or is back already, is left alone."""
        with self._condition:
            if self._busy.pop(id(resource), None) is None:
                return
            self._pending += 1
        is_kept = bool(self._limit) and not self._closed and self.is_usable(resource, 0.0)
        with self._condition:
            self._pending -= 1
            is_kept = is_kept and not self._closed and self._has_room()
            if is_kept:
                self._idle.append((monotonic(), resource))
            self._condition.notify()
        if not is_kept:
            self._drop(resource)

    def replace(self, resource: R) -> None:
        """Close one that is defective instead of giving it back; another may be made for it."""
        with self._condition:
            self._busy.pop(id(resource), None)
            self._condition.notify()
        self._drop(resource)

    def _drop(self, resource: R) -> None:
        getattr(resource, "__dict__", {}).pop("release", None)
        try:
            self.close_resource(resource)
        except KombuError as error:
            logger.debug("Closing a broken member of %r: %r", self, error)

    def _has_room(self) -> bool:
        return not self._limit or len(self._idle) + len(self._busy) + self._pending < self._limit

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")

    # -- the pool itself -------------------------------------------------------------------

    @property
    def limit(self) -> int | None:
        """How many there are at most; None or 0 for no limit. Assigning resizes."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self.resize(limit)

    def resize(self, limit: int | None, *, reset: bool = False) -> None:
        """Change the limit. Beyond it the idle are closed at once, those in use when they are back.

        Args:
            limit: As for the constructor.
            reset: Close all that are idle.
        """
        limit = checked_limit(limit)
        surplus: list[R] = []
        with self._condition:
            self._limit = limit
            used = len(self._busy) + self._pending
            kept = 0 if reset or not limit else max(0, limit - used)
            while len(self._idle) > kept:
                surplus.append(self._idle.pop(0)[1])
            self._condition.notify_all()
        for resource in surplus:
            self._drop(resource)

    def force_close_all(self, close_pool: bool = True) -> None:
        """Close all, also what is in use: whoever uses it gets errors.

        Args:
            close_pool: Hand out nothing any more.
        """
        with self._condition:
            self._closed = self._closed or close_pool
            found = [resource for _, resource in self._idle] + list(self._busy.values())
            self._idle.clear()
            self._busy.clear()
            self._condition.notify_all()
        for resource in found:
            self._drop(resource)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.force_close_all()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._busy)} of {self._limit or 'any number'} used>"


class ConnectionPool(Resource["Connection"]):
    """Connections like a given one, which itself is not used.

    Channels that somebody opens on a connection he takes should be closed before it is given
    back; its default channel stays, and with it what is unacknowledged there.

    Args:
        connection: What they are copies of.
        limit: See `Resource`.
        preload: How many are made and connected at once.
        check_after: Seconds that one is idle after which its broker is asked, in one round trip,
            whether it is still there, before it is handed out; None for never.
    """

    LimitExceeded = ConnectionLimitExceededError

    def __init__(
        self,
        connection: Connection,
        limit: int | None = None,
        preload: int | None = None,
        *,
        check_after: float | None = CHECK_AFTER,
    ) -> None:
        self.connection = connection
        self.check_after = check_after
        super().__init__(limit)
        self.preload(preload or 0)

    def preload(self, count: int) -> None:
        """Connect that many before anybody asks for them, as far as the limit allows."""
        made = [self.acquire() for _ in range(count)]
        for connection in made:
            connection.connect()
        for connection in made:
            self.release(connection)

    def new(self, timeout: float | None) -> Connection:
        return self.connection.clone()

    def is_usable(self, resource: Connection, idle: float) -> bool:
        if not resource.connected:
            return False
        try:
            resource.heartbeat_check()
            if idle and self.check_after is not None and idle >= self.check_after:
                channel = resource.channel()
                channel.exchange_declare("amq.direct", passive=True, durable=True)
                channel.close()
        except KombuError as error:
            logger.info("A pooled connection is broken: %r", error)
            return False
        return resource.connected

    def close_resource(self, resource: Connection) -> None:
        resource.close()

    def acquire_channel(self, block: bool = False) -> tuple[Connection, Channel]:
        """Take a connection; return it with its default channel. Release the connection."""
        connection = self.acquire(block=block)
        try:
            return connection, connection.default_channel
        except BaseException:
            self.release(connection)
            raise


class ChannelPool(Resource["Channel"]):
    """Channels of one connection. Take one with `borrow`, or give it back by its `release()`.

    One that was closed, by an error or with its connection, is replaced.

    Args:
        connection: Whose channels they are; connected when the first is taken.
        limit: See `Resource`.
        preload: How many are opened at once.
    """

    LimitExceeded = ChannelLimitExceededError

    def __init__(
        self, connection: Connection, limit: int | None = None, preload: int | None = None
    ) -> None:
        self.connection = connection
        super().__init__(limit, preload)

    def new(self, timeout: float | None) -> Channel:
        return self.connection.channel()

    def is_usable(self, resource: Channel, idle: float) -> bool:
        return resource.is_open and self.connection.connected

    def close_resource(self, resource: Channel) -> None:
        resource.close()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())


def checked_limit(limit: int | None) -> int | None:
    """Return the limit of a pool, or raise ConfigurationError."""
    if isinstance(limit, bool) or (limit is not None and limit < 0):
        raise ConfigurationError(f"The limit of a pool is {limit!r}, not a number of members")
    return limit
