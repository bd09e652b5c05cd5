"""A queue of a broker with the interface of the standard library's `queue.Queue`."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from kombu_core.consumer import Consumer
from kombu_core.declaration import channel_of
from kombu_core.entity import Queue
from kombu_core.exceptions import ConfigurationError, NothingCameError
from kombu_core.exchange import Exchange
from kombu_core.message import Message
from kombu_core.producer import Producer

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kombu_core.connection import Connection
    from kombu_core.transport import Channel

__all__ = ["SimpleBuffer", "SimpleQueue"]


class SimpleQueue:
    """Puts values into one durable queue, and gets messages from it.

    Belongs to one thread at a time, with its connection. A message leaves the queue when `get`
    returns it and not before, so that several processes share the work; but once a queue that is
    auto-delete or `no_ack` was waited for, its messages come ahead of `get` until `close`.

    Iterating yields messages until the queue is empty.

    Args:
        channel: A channel, or a connection, whose default channel is used then.
        name: Of the queue, and of a direct exchange; or a `Queue`, used as it is.
        no_ack: Messages count as acknowledged when they come; None for the class's own: false.
        queue_opts: Arguments of the `Queue`.
        queue_args: Its `queue_arguments`.
        exchange_opts: Arguments of the `Exchange`.
        serializer: For `put`; None: text and bytes as they are, all else as JSON.
        compression: For `put`.
        accept: Serializers or content types that may be decoded; None: the enabled ones.
    """

    #: What `get` raises when there is nothing, as `queue.Empty`.
    Empty: ClassVar[type[Empty]] = Empty

    no_ack: bool = False
    queue_opts: ClassVar[Mapping[str, Any]] = {}
    queue_args: ClassVar[Mapping[str, Any]] = {}
    exchange_opts: ClassVar[Mapping[str, Any]] = {"type": "direct"}

    def __init__(
        self,
        channel: Channel | Connection,
        name: str | Queue,
        no_ack: bool | None = None,
        queue_opts: Mapping[str, Any] | None = None,
        queue_args: Mapping[str, Any] | None = None,
        exchange_opts: Mapping[str, Any] | None = None,
        serializer: str | None = None,
        compression: str | None = None,
        accept: Collection[str] | None = None,
    ) -> None:
        if no_ack is not None:
            self.no_ack = no_ack
        if isinstance(name, Queue):
            if queue_opts or queue_args or exchange_opts:
                raise ConfigurationError(f"{name!r} is declared as it is: it takes no options")
            queue = name
        else:
            queue = Queue(
                name,
                Exchange(name, **{**self.exchange_opts, **(exchange_opts or {})}),
                name,
                queue_arguments={**self.queue_args, **(queue_args or {})} or None,
                **{**self.queue_opts, **(queue_opts or {})},
            )
        self.consumer = Consumer(
            channel, [queue], no_ack=self.no_ack, on_message=self._receive, accept=accept
        )
        bound_to = queue.exchange if queue.exchange is not None and queue.exchange.name else None
        self.producer = Producer(
            channel,
            bound_to,
            routing_key=self.queue.name if bound_to is None else queue.routing_key,
            serializer=serializer,
            compression=compression,
        )
        self._accept = accept
        self.buffer: deque[Message] = deque()

    @property
    def queue(self) -> Queue:
        """The queue, bound to the channel in use."""
        return self.consumer.queues[0]

    @property
    def channel(self) -> Channel:
        """The channel in use."""
        return channel_of(self.consumer.channel)

    # -- getting ---------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """Return the next message; acknowledge it when it is done with, unless `no_ack`.

        Args:
            block: Wait for one.
            timeout: Seconds to wait; None for ever.

        Raises:
            queue.Empty: There is none.
            ConnectionLostError: The broker went away.
        """
        try:
            return self.get_nowait()
        except Empty:
            if not block:
                raise
        deadline = None if timeout is None else monotonic() + timeout
        self.consumer.consume()
        try:
            while not self._is_filled():
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise Empty
                try:
                    self._client.drain_events(timeout=left)
                except NothingCameError:
                    raise Empty from None
            return self.buffer.popleft()
        finally:
            if not self._stays_subscribed:
                self._unsubscribe()

    def get_nowait(self) -> Message:
        """Return the next message if there is one; like `get` it raises `queue.Empty`."""
        self._pull()
        if self._is_filled():
            return self.buffer.popleft()
        message = self.queue.get(no_ack=self.no_ack, accept=self._accept)
        if message is None:
            raise Empty
        return message

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                message = self.get_nowait()
            except Empty:
                return
            yield message

    @property
    def _client(self) -> Connection:
        client = self.channel.transport.client
        if client is None:
            raise ConfigurationError("Waiting needs a channel that was made by a Connection")
        return client

    @property
    def _stays_subscribed(self) -> bool:
        """Whether it goes on to consume when `get` returns.

        Not to have messages here that others could get meanwhile is better; but an auto-delete
        queue goes with its consumer, and what needs no acknowledgement could not be put back.
        """
        return self.no_ack or self.queue.auto_delete

    def _unsubscribe(self) -> None:
        if self.channel.is_open:
            self.consumer.cancel()
            while self._is_filled():
                self.buffer.pop().requeue()  # The last one first, so that their order stays.

    def _pull(self) -> None:
        """Take in what the broker has sent already, if it is subscribed."""
        while self.consumer.consuming_from(self.queue):
            try:
                self._client.drain_events(timeout=0)
            except NothingCameError:
                return

    def _is_filled(self) -> bool:
        # What came before the connection was lost comes again.
        while self.buffer and not (self.no_ack or self.buffer[0].channel.is_open):
            self.buffer.popleft()
        return bool(self.buffer)

    def _receive(self, message: Message) -> None:
        self.buffer.append(message)

    # -- putting, counting, ending ---------------------------------------------------------

    def put(
        self,
        message: Any,
        serializer: str | None = None,
        headers: Mapping[str, Any] | None = None,
        compression: str | None = None,
        routing_key: str | None = None,
        **options: Any,
    ) -> None:
        """Publish a value; returns when the broker has it. Options and errors as by `Producer`."""
        self.producer.publish(
            message,
            serializer=serializer,
            routing_key=routing_key,
            headers=headers,
            compression=compression,
            **options,
        )

    def clear(self) -> int:
        """Delete the messages that nobody got yet; tell how many."""
        self._pull()
        buffered = len(self.buffer)
        for message in self.buffer:
            if not message.acknowledged and message.channel.is_open:
                message.ack()
        self.buffer.clear()
        return buffered + self.consumer.purge()

    def qsize(self) -> int:
        """Return how many messages wait: at the broker, and here already."""
        self._pull()
        return self.queue.queue_declare(passive=True).message_count + len(self.buffer)

    def close(self) -> None:
        """Stop consuming. What was got and is unacknowledged stays so. Idempotent."""
        if self.no_ack:
            self.buffer.clear()
        self._unsubscribe()
        self.buffer.clear()

    def __len__(self) -> int:
        return self.qsize()

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.queue.name}>"


class SimpleBuffer(SimpleQueue):
    """A `SimpleQueue` of this connection only: nothing is acknowledged, durable, or kept."""

    no_ack = True
    queue_opts = {"durable": False, "auto_delete": True, "exclusive": True}  # noqa: RUF012
    exchange_opts = {  # noqa: RUF012
        "durable": False,
        "delivery_mode": "transient",
        "auto_delete": True,
    }
