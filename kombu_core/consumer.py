"""Consuming: messages of some queues go to callbacks while the connection is drained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu_core.declaration import accepted_by, channel_of
from kombu_core.entity import Queue
from kombu_core.exceptions import CodecError, ConfigurationError, ConsumerCancelledError
from kombu_core.message import Message
from kombu_core.serialization import Registry, default_registry
from kombu_core.transport import Channel
from kombu_core.typed_messages import reader_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kombu_core.connection import Connection
    from kombu_core.transport import CancelCallback

#: Called with the decoded body and the message.
Callback = Callable[[Any, Message], object]
OnMessage = Callable[[Message], object]
OnDecodeError = Callable[[Message, Exception], object]


class _Subscription(NamedTuple):
    tag: str
    no_ack: bool | None


class Consumer:
    """Consumes from queues on one channel. Belongs to one thread at a time.

    Args:
        channel: A channel, or a connection, whose default channel is used then.
        queues: One or several.
        no_ack: Messages count as acknowledged when they are delivered; None: as each queue says.
        auto_declare: Declare the queues before consuming.
        callbacks: Each is called with (body, message), the body decoded.
        on_decode_error: Called with (message, error) if the body cannot be decoded; without it
            the error leaves `drain_events` and the message stays unacknowledged.
        on_message: Called with (message), nothing decoded, instead of all callbacks.
        accept: Serializers or content types that may be decoded; None: those of the connection, or
            the enabled ones.
        prefetch_count: Unacknowledged messages at most, for each queue; None: no limit.
        tag_prefix: Consumer tags begin with it.
        on_cancel: Called with the tag if the broker ends a subscription. Without it the queue is
            declared and consumed again where the connection has `recovery`, as after a lost
            connection; elsewhere ConsumerCancelledError leaves `drain_events`.
        registry: Serializers and compressions.
        type: What bodies are made into and checked against: a dataclass, a class of attrs, msgspec
            or pydantic, or a type such as `list[int]`. A body that does not fit is an
            InvalidMessageError, which is a DecodeError and names the field.
    """

    def __init__(
        self,
        channel: Channel | Connection,
        queues: Iterable[Queue] | Queue | None = None,
        no_ack: bool | None = None,
        auto_declare: bool = True,
        callbacks: Iterable[Callback] | None = None,
        on_decode_error: OnDecodeError | None = None,
        on_message: OnMessage | None = None,
        accept: Collection[str] | None = None,
        prefetch_count: int | None = None,
        tag_prefix: str = "",
        *,
        on_cancel: CancelCallback | None = None,
        registry: Registry = default_registry,
        type: Any = None,
    ) -> None:
        self.no_ack = no_ack
        self.auto_declare = auto_declare
        self.callbacks = list(callbacks or ())
        self.on_decode_error = on_decode_error
        self.on_message = on_message
        self.prefetch_count = prefetch_count
        self.tag_prefix = tag_prefix
        self.on_cancel = on_cancel
        self._registry = registry
        self._convert = None if type is None else reader_of(type)
        #: By the name of the queue.
        self._subscriptions: dict[str, _Subscription] = {}
        #: Queues whose names the broker made up: after a reconnect it makes up others.
        self._nameless: set[str] = set()
        self._qos: tuple[int, int, bool] | None = None
        self._numbers = itertools.count(1)
        self._received: Callable[..., Any] | None = None
        self._settled: Callable[..., Any] | None = None
        unbound = [queues] if isinstance(queues, Queue) else list(queues or ())
        self._queues: dict[str, Queue] = {}
        self.channel = self._attach(channel)
        # Not earlier: plugins that add serializers are loaded with the connection.
        self._accept = registry.resolve_accept(accepted_by(self.channel, accept))
        for queue in unbound:
            self.add_queue(queue)

    def _attach(self, channel: Channel | Connection) -> Channel:
        attached = channel_of(channel)
        client = attached.transport.client
        if client is not None:
            client.recovery.uses(self)
            self._received = client.plugins.observer("kombu_message_received")
            self._settled = client.plugins.observer("kombu_message_settled")
        if self.prefetch_count is not None:
            attached.basic_qos(0, self.prefetch_count, False)
        if self._qos is not None:
            attached.basic_qos(*self._qos)
        return attached

    # -- queues ----------------------------------------------------------------------------

    @property
    def queues(self) -> list[Queue]:
        """The queues, bound to the channel."""
        return list(self._queues.values())

    def declare(self) -> None:
        """Declare the queues, with their exchanges and bindings."""
        for name, queue in list(self._queues.items()):
            queue.declare()
            if not name:
                del self._queues[name]
                self._named_by_broker(queue)

    def _named_by_broker(self, queue: Queue) -> None:
        self._queues[queue.name] = queue
        self._nameless.add(queue.name)

    def add_queue(self, queue: Queue) -> Queue:
        """Add a queue, declared if `auto_declare`; `consume` begins to consume from it."""
        bound = queue(self.channel)
        if self.auto_declare:
            bound.declare()
        if bound.name and not queue.name:
            self._named_by_broker(bound)
        self._queues[bound.name] = bound
        return bound

    def consuming_from(self, queue: Queue | str) -> bool:
        """Tell whether messages of that queue are consumed."""
        return (queue.name if isinstance(queue, Queue) else queue) in self._subscriptions

    # -- consuming -------------------------------------------------------------------------

    def register_callback(self, callback: Callback) -> None:
        """Add a callback; all are called in order, with (body, message)."""
        self.callbacks.append(callback)

    def consume(self, no_ack: bool | None = None) -> None:
        """Begin to consume from the queues that are not consumed yet.

        Args:
            no_ack: Overrides the consumer's and the queues'.
        """
        if no_ack is None:
            no_ack = self.no_ack
        for queue in self._queues.values():
            if queue.name not in self._subscriptions:
                self._subscribe(queue, self._next_tag(), no_ack)

    def _subscribe(self, queue: Queue, consumer_tag: str, no_ack: bool | None) -> None:
        tag = queue.consume(consumer_tag, self._receive, no_ack, on_cancel=self._cancelled)
        self._subscriptions[queue.name] = _Subscription(tag, no_ack)

    def _next_tag(self) -> str:
        return f"{self.tag_prefix}{next(self._numbers)}" if self.tag_prefix else ""

    def cancel(self) -> None:
        """Stop consuming. What is unacknowledged stays so until the channel closes."""
        while self._subscriptions:
            _, subscription = self._subscriptions.popitem()
            self.channel.basic_cancel(subscription.tag)

    close = cancel

    def cancel_by_queue(self, queue: Queue | str) -> None:
        """Stop consuming from one queue, and forget it."""
        name = queue.name if isinstance(queue, Queue) else queue
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None:
            self.channel.basic_cancel(subscription.tag)
        self._queues.pop(name, None)

    def _cancelled(self, consumer_tag: str) -> None:
        names = [name for name, (tag, _) in self._subscriptions.items() if tag == consumer_tag]
        if not names:
            return  # Cancelled by the application at the same time.
        name = names[0]
        subscription = self._subscriptions.pop(name)
        client = self.channel.transport.client
        if self.on_cancel is not None:
            self.on_cancel(consumer_tag)
        elif client is not None and client.recovers and name not in self._nameless:
            queue = self._queues[name]
            if self.auto_declare:
                queue.declare()
            self._subscribe(queue, *subscription)
        else:
            raise ConsumerCancelledError(name, consumer_tag)

    def purge(self) -> int:
        """Delete the messages that wait in all queues; tell how many."""
        return sum(queue.purge() for queue in self._queues.values())

    def flow(self, active: bool) -> None:
        """Pause (False) or resume (True) the deliveries on the channel."""
        self.channel.flow(active)

    def qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> None:
        """Limit unacknowledged messages: of consumers that start from now on, or of the channel."""
        self.channel.basic_qos(prefetch_size, prefetch_count, apply_global)
        self._qos = (prefetch_size, prefetch_count, apply_global)

    def recover(self, requeue: bool = True) -> None:
        """Requeue everything that is unacknowledged on the channel."""
        self.channel.basic_recover(requeue)

    @property
    def used_channel(self) -> Channel:
        """The channel in use."""
        return self.channel

    def revive(self, channel: Channel | Connection) -> None:
        """Go on with another channel; consumes again from what was consumed, with the same tags.

        If it fails, the consumer still knows all that it consumed, to be revived once more.
        """
        new = channel_of(channel)
        if new is self.channel:
            return
        if self.channel.is_open:
            for subscription in self._subscriptions.values():
                self.channel.basic_cancel(subscription.tag)
        is_reconnected = new.transport is not self.channel.transport
        self._attach(new)
        queues: dict[str, Queue] = {}
        nameless: set[str] = set()
        subscriptions: dict[str, _Subscription] = {}
        for name, queue in self._queues.items():
            is_nameless = name in self._nameless
            if is_nameless and is_reconnected:
                queue = Queue(**{**queue.as_dict(), "name": ""})
            bound = queue(new)
            if self.auto_declare and (is_reconnected or not is_nameless):
                bound.declare()
            queues[bound.name] = bound
            if is_nameless:
                nameless.add(bound.name)
            if name in self._subscriptions:
                tag, no_ack = subscriptions[bound.name] = self._subscriptions[name]
                bound.consume(tag, self._receive, no_ack, on_cancel=self._cancelled)
        self.channel, self._queues, self._nameless = new, queues, nameless
        self._subscriptions = subscriptions

    # -- receiving -------------------------------------------------------------------------

    def receive(self, body: Any, message: Message) -> None:
        """Give a message to the callbacks.

        Raises:
            ConfigurationError: There are none.
        """
        if not self.callbacks:
            raise ConfigurationError("The consumer has no callbacks: use register_callback()")
        for callback in self.callbacks:
            callback(body, message)

    def _receive(self, message: Message) -> None:
        message.accept = self._accept
        message.registry = self._registry
        if self._convert is not None:
            message.convert = self._convert
        if self._settled is not None:
            message.observe(self._settled)
        if self._received is not None:
            self._received(transport=self.channel.transport, message=message)
        if self.on_message is not None:
            self.on_message(message)
            return
        try:
            body = message.payload
        except CodecError as error:
            if self.on_decode_error is None:
                raise
            self.on_decode_error(message, error)
        else:
            self.receive(body, message)

    # -- the rest --------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.consume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After a lost connection there is nothing to cancel, and the error matters more.
        if self.channel.is_open:
            self.cancel()
        self._subscriptions.clear()

    def __repr__(self) -> str:
        return f"<Consumer: {', '.join(self._queues) or 'no queues'}>"
