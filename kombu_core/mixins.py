"""Classes to inherit for programs that consume: they connect, and come back when that breaks."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from kombu_core.consumer import Consumer
from kombu_core.exceptions import ConnectionLostError, NothingCameError, OperationalError
from kombu_core.message import Message
from kombu_core.producer import Producer
from kombu_core.retry import Backoff

if TYPE_CHECKING:
    from kombu_core.connection import Connection
    from kombu_core.transport import Channel

__all__ = ["ConsumerMixin", "ConsumerProducerMixin"]

logger = logging.getLogger(__name__)

#: Seconds within which a waiting program notices `should_stop`.
STOP_INTERVAL: Final = 0.05


class ConsumerMixin:
    """A program that consumes until it is told to stop.

        class Worker(ConsumerMixin):
            def __init__(self, connection):
                self.connection = connection

            def get_consumers(self, Consumer, channel):
                return [Consumer([tasks], callbacks=[self.on_task], prefetch_count=10)]

            def on_task(self, body, message):
                print("got", body)
                message.ack()

        Worker(connection).run()

    `run` belongs to one thread; any thread may set `should_stop`.
    """

    #: What to consume through: only copies of it are connected.
    connection: Connection
    #: Attempts to connect after the first, each time; None for no end.
    connect_max_retries: int | None = None
    #: Set it to let `run` and `consume` return, within `safety_interval` seconds.
    should_stop: bool = False
    #: How long to wait between attempts to connect, and to consume after a failure.
    restart_backoff: ClassVar[Backoff] = Backoff(start=0.0, step=1.0, maximum=30.0)

    _has_given_up = False

    # -- what a program defines ------------------------------------------------------------

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803 (kombu's name)
        channel: Channel,
    ) -> list[Consumer]:
        """Return the consumers; called again after each reconnect.

        Args:
            Consumer: Makes one on `channel`, with `on_decode_error`; takes what `Consumer` does.
            channel: The default one of the new connection. More may be opened on that.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define get_consumers()")

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        """Called when connecting failed; it is tried again after `interval` seconds."""
        logger.warning("No connection to the broker: %r; trying again in %.1f s", exc, interval)

    def on_connection_revived(self) -> None:
        """Called each time that there is a new connection, before anything is consumed."""

    def on_consume_ready(
        self, connection: Connection, channel: Channel, consumers: list[Consumer], **kwargs: Any
    ) -> None:
        """Called when messages can come; `kwargs` are those of `run` or `consume`."""

    def on_consume_end(self, connection: Connection, channel: Channel) -> None:
        """Called when the consumers have ended, also because the connection was lost."""

    def on_iteration(self) -> None:
        """Called before each event, and at least every `safety_interval` seconds."""

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Called with what cannot be decoded; logs, and rejects it: to the dead letters, if any."""
        logger.error("Rejecting %r, which cannot be decoded: %r", message, exc)
        if not message.acknowledged:
            message.reject()

    @contextmanager
    def extra_context(self, connection: Connection, channel: Channel) -> Iterator[None]:
        """Entered before messages can come and left when that ends; a context manager."""
        yield

    def create_connection(self) -> Connection:
        """Return a new, unconnected connection."""
        # It must not recover by itself: that is what `run` does, and tells about.
        return self.connection.clone(recovery=None)

    # -- running ---------------------------------------------------------------------------

    def run(self, **kwargs: Any) -> None:
        """Consume until `should_stop`; when the broker fails, connect and begin anew.

        Args:
            **kwargs: Of `consume`.

        Raises:
            ConnectError: `connect_max_retries` attempts to connect failed.
            OperationTimeoutError: Nothing came for `timeout` seconds, if that was given.
        """
        errors = (*self.connection_errors, *self.channel_errors)
        intervals = iter(self.restart_backoff)
        while not self.should_stop:
            try:
                for _ in self.consume(None, **kwargs):
                    intervals = iter(self.restart_backoff)
            except errors as error:
                if self.should_stop:
                    return
                interval = next(intervals, None)
                if self._has_given_up or interval is None:
                    raise
                logger.warning("Consuming broke off, again in %.1f s", interval, exc_info=error)
                self._pause(interval)

    def consume(
        self,
        limit: int | None = None,
        timeout: float | None = None,
        safety_interval: float = 1.0,
        **kwargs: Any,
    ) -> Iterator[None]:
        """Connect, consume, and yield after each event, until `should_stop`.

        Args:
            limit: Events; None for no end.
            timeout: Seconds without an event; None for any number.
            safety_interval: Seconds between two looks at `should_stop` while nothing comes.
            **kwargs: For `on_consume_ready`.

        Raises:
            OperationTimeoutError: Nothing came for `timeout` seconds.
            ConnectionLostError: The broker went away.
        """
        with self.consumer_context(**kwargs) as (connection, _, _):
            for _ in range(limit) if limit else itertools.count():
                if not self._next_event(connection, timeout, safety_interval):
                    return
                yield

    def _next_event(
        self, connection: Connection, timeout: float | None, safety_interval: float
    ) -> bool:
        """Handle one event; False if it is time to stop."""
        waiting_since = time.monotonic()
        while not self.should_stop:
            self.on_iteration()
            try:
                connection.drain_events(timeout=safety_interval)
                return True
            except NothingCameError:
                connection.heartbeat_check()
                if timeout and time.monotonic() - waiting_since >= timeout:
                    raise
            except ConnectionLostError:
                if not self.should_stop:
                    raise
        return False

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.should_stop and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, STOP_INTERVAL))

    # -- the contexts that it is made of -----------------------------------------------------

    @contextmanager
    def consumer_context(
        self, **kwargs: Any
    ) -> Iterator[tuple[Connection, Channel, list[Consumer]]]:
        """`Consumer` and `extra_context` together; then `on_consume_ready` was called."""
        with (
            self.Consumer() as (connection, channel, consumers),
            self.extra_context(connection, channel),
        ):
            self.on_consume_ready(connection, channel, consumers, **kwargs)
            yield connection, channel, consumers

    @contextmanager
    def Consumer(  # noqa: N802 (kombu's name)
        self,
    ) -> Iterator[tuple[Connection, Channel, list[Consumer]]]:
        """A new connection, its default channel, and the consumers, consuming."""
        with self.establish_connection() as connection:
            self.on_connection_revived()
            logger.info("Connected to %s", connection.as_uri())
            channel = connection.default_channel
            make = partial(Consumer, channel, on_decode_error=self.on_decode_error)
            try:
                consumers = self.get_consumers(make, channel)
                with self._consume_from(*consumers):
                    yield connection, channel, consumers
            finally:
                self.on_consume_end(connection, channel)

    def _consume_from(
        self, *consumers: AbstractContextManager[object]
    ) -> AbstractContextManager[object]:
        stack = ExitStack()
        for consumer in consumers:
            stack.enter_context(consumer)
        return stack

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:
        """A new connection, connected, closed at the end.

        Raises:
            ConnectError: `connect_max_retries` attempts failed, or `should_stop` was set meanwhile.
        """
        with self.create_connection() as connection:
            self._connect(connection)
            yield connection

    def _connect(self, connection: Connection) -> None:
        """Connect, trying again as often as `connect_max_retries` allows."""
        backoff = self.restart_backoff
        intervals = itertools.islice(iter(backoff), self.connect_max_retries)
        while True:
            try:
                connection.connect()
                return
            except OperationalError as error:
                interval = next(intervals, None)
                if interval is None or not error.is_retryable:
                    self._has_given_up = True
                if interval is None or not error.is_retryable or self.should_stop:
                    raise
                self.on_connection_error(error, interval)
                self._pause(interval)

    @property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """What a broken connection raises."""
        return self.connection.connection_errors

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """What closes a channel."""
        return self.connection.channel_errors


class ConsumerProducerMixin(ConsumerMixin):
    """A `ConsumerMixin` that also publishes, through a second connection: `self.producer`."""

    _producer: Producer | None = None
    _producer_connection: Connection | None = None

    @property
    def producer(self) -> Producer:
        """A producer on `producer_connection`."""
        connection = self.producer_connection
        if self._producer is None:
            self._producer = Producer(connection)
        return self._producer

    @property
    def producer_connection(self) -> Connection:
        """A connection for publishing; connected when it is first used, as the other one is."""
        if self._producer_connection is None:
            connection = self.create_connection()
            self._connect(connection)
            self._producer_connection = connection
        return self._producer_connection

    def on_consume_end(self, connection: Connection, channel: Channel) -> None:
        """Close `producer_connection`."""
        former, self._producer_connection = self._producer_connection, None
        self._producer = None
        if former is not None:
            former.close()
