"""What an application declares: queues, and from `kombu_core.exchange` exchanges and bindings.

They are values until they are bound to a channel; see `kombu_core.declaration`. Operations block
for a round trip to the broker; their `nowait` exists for callers of kombu and means nothing here:
the answer is always waited for, so an error is raised where it was caused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kombu_core.declaration import Entity, HasDefaultChannel, accepted_by
from kombu_core.exceptions import ConfigurationError
from kombu_core.exchange import Binding, Exchange, name_of, to_exchange
from kombu_core.serialization import default_registry

if TYPE_CHECKING:
    from typing import Self

    from kombu_core.message import Message
    from kombu_core.transport import (
        Arguments,
        CancelCallback,
        Channel,
        MessageCallback,
        QueueDeclareOk,
    )

__all__ = ["Binding", "Entity", "Exchange", "Queue", "binding"]

#: kombu's name.
binding = Binding


class Queue(Entity):
    """A queue, and what it is bound to.

    Args:
        name: Empty: the broker makes one up, and `declare` stores it in the bound copy.
        exchange: What it is bound to: an exchange or the name of one, or a list of bindings.
            None: no more than the default exchange, which every queue is bound to by its name.
        routing_key: Of the binding to `exchange`.
        channel: Bind it at once.
        key: Another name for `routing_key`.
        bindings: Further bindings.
        durable: It survives a restart of the broker.
        exclusive: Only this connection uses it, and it goes with it; implies `auto_delete`.
        auto_delete: It goes with its last consumer.
        no_ack: Messages count as acknowledged when they are delivered.
        passive: `declare` only checks that it exists.
        no_declare: `declare` does nothing.
        alias: For the application; not compared.
        queue_arguments: Of queue.declare; what has an own argument below is better given there.
        binding_arguments: Of the binding to `exchange`.
        consumer_arguments: Of basic.consume, as `x-priority`.
        expires: Seconds after which it is deleted unless used (`x-expires`).
        message_ttl: Seconds that a message waits at most (`x-message-ttl`).
        max_length: Messages that wait at most (`x-max-length`).
        max_length_bytes: The same in bytes of bodies (`x-max-length-bytes`).
        max_priority: The highest priority (`x-max-priority`).
        on_declared: Called with name, message count and consumer count after the declaration;
            neither compared nor pickled.
    """

    __slots__ = (
        "alias",
        "auto_delete",
        "binding_arguments",
        "bindings",
        "consumer_arguments",
        "durable",
        "exchange",
        "exclusive",
        "expires",
        "max_length",
        "max_length_bytes",
        "max_priority",
        "message_ttl",
        "name",
        "no_ack",
        "no_declare",
        "on_declared",
        "passive",
        "queue_arguments",
        "routing_key",
    )

    _fields = (
        "name",
        "exchange",
        "routing_key",
        "bindings",
        "durable",
        "exclusive",
        "auto_delete",
        "no_ack",
        "passive",
        "no_declare",
        "alias",
        "queue_arguments",
        "binding_arguments",
        "consumer_arguments",
        "expires",
        "message_ttl",
        "max_length",
        "max_length_bytes",
        "max_priority",
    )
    _unequal = frozenset({"alias"})
    _assignable = frozenset({"exchange", "routing_key", "queue_arguments", "alias", "on_declared"})

    exchange: Exchange | None
    routing_key: str
    bindings: tuple[Binding, ...]
    durable: bool
    exclusive: bool
    auto_delete: bool
    no_ack: bool
    passive: bool
    no_declare: bool
    alias: str | None
    queue_arguments: Arguments | None
    binding_arguments: Arguments | None
    consumer_arguments: Arguments | None
    expires: float | None
    message_ttl: float | None
    max_length: int | None
    max_length_bytes: int | None
    max_priority: int | None
    on_declared: Callable[[str, int, int], object] | None

    def __init__(
        self,
        name: str = "",
        exchange: Exchange | str | Mapping[str, Any] | Iterable[Binding] | None = None,
        routing_key: str = "",
        channel: Channel | HasDefaultChannel | None = None,
        *,
        key: str | None = None,
        bindings: Iterable[Binding | Mapping[str, Any]] | None = None,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        no_ack: bool = False,
        passive: bool = False,
        no_declare: bool = False,
        alias: str | None = None,
        queue_arguments: Arguments | None = None,
        binding_arguments: Arguments | None = None,
        consumer_arguments: Arguments | None = None,
        expires: float | None = None,
        message_ttl: float | None = None,
        max_length: int | None = None,
        max_length_bytes: int | None = None,
        max_priority: int | None = None,
        on_declared: Callable[[str, int, int], object] | None = None,
    ) -> None:
        if key is not None:
            if routing_key and routing_key != key:
                raise ConfigurationError(f"routing_key is {routing_key!r} and key is {key!r}")
            routing_key = key
        declared = list(bindings or ())
        if not isinstance(exchange, Exchange | str | Mapping | None):
            declared = [*exchange, *declared]
            exchange = None
        if exchange is None and not declared:
            exchange = Exchange()
        self._initialize(
            channel,
            name=name or "",
            exchange=None if exchange is None else to_exchange(exchange),
            routing_key=routing_key or "",
            bindings=tuple(
                item if isinstance(item, Binding) else Binding(**item) for item in declared
            ),
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete or exclusive,
            no_ack=no_ack,
            passive=passive,
            no_declare=no_declare,
            alias=alias,
            queue_arguments=queue_arguments,
            binding_arguments=binding_arguments,
            consumer_arguments=consumer_arguments,
            expires=expires,
            message_ttl=message_ttl,
            max_length=max_length,
            max_length_bytes=max_length_bytes,
            max_priority=max_priority,
            on_declared=on_declared,
        )

    def _normalized(self, name: str, value: object) -> object:
        return to_exchange(value) if name == "exchange" and value is not None else value

    def _attach(self, channel: Channel | HasDefaultChannel) -> None:
        super()._attach(channel)
        if self.exchange is not None:
            self._set(exchange=self.exchange.bind(self.channel))

    def __copy__(self) -> Self:
        clone = super().__copy__()
        clone._set(on_declared=self.on_declared)
        return clone

    # -- declaring -------------------------------------------------------------------------

    def declare(self, *, nowait: bool = False) -> str:
        """Declare its exchange, itself, the exchanges of its bindings, and bind; tell its name."""
        channel = self._channel_for("declare")
        if self.no_declare:
            return self.name
        if self.exchange is not None:
            self.exchange.declare()
        self.queue_declare()
        for item in self.bindings:
            item.declare(channel)
            item.bind(self)
        if self.exchange is not None and self.exchange.name:
            self.queue_bind()
        self._remember()
        return self.name

    def queue_declare(self, *, nowait: bool = False, passive: bool | None = None) -> QueueDeclareOk:
        """Declare the queue alone. `passive`: check only that it exists; None: as it was told."""
        answer = self._channel_for("queue_declare").queue_declare(
            self.name,
            passive=self.passive if passive is None else passive,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=self.auto_delete,
            arguments=self.declare_arguments,
        )
        if not self.name:
            self._set(name=answer.queue)
        if self.on_declared is not None:
            self.on_declared(*answer)
        return answer

    @property
    def declare_arguments(self) -> dict[str, Any] | None:
        """The arguments of queue.declare: `queue_arguments` and, over them, `expires` and so on."""
        own = {
            "x-expires": _milliseconds(self.expires),
            "x-message-ttl": _milliseconds(self.message_ttl),
            "x-max-length": self.max_length,
            "x-max-length-bytes": self.max_length_bytes,
            "x-max-priority": self.max_priority,
        }
        given = {name: value for name, value in own.items() if value is not None}
        return {**(self.queue_arguments or {}), **given} or None

    @property
    def can_cache_declaration(self) -> bool:
        """Whether it stays once it was declared, so that nobody needs to declare it again."""
        return not self.auto_delete and "x-expires" not in (self.declare_arguments or ())

    # -- binding ---------------------------------------------------------------------------

    def queue_bind(self, *, nowait: bool = False) -> None:
        """Bind it to `exchange` by `routing_key`."""
        self._channel_for("queue_bind")
        self.bind_to(self.exchange or "", self.routing_key, self.binding_arguments)

    def queue_unbind(self, arguments: Arguments | None = None, *, nowait: bool = False) -> None:
        """Undo `queue_bind`. `arguments`: None for those that it was bound with."""
        self._channel_for("queue_unbind")
        arguments = self.binding_arguments if arguments is None else arguments
        self.unbind_from(self.exchange or "", self.routing_key, arguments)

    def bind_to(
        self,
        exchange: Exchange | str,
        routing_key: str = "",
        arguments: Arguments | None = None,
        *,
        nowait: bool = False,
    ) -> None:
        """Receive what an exchange routes by `routing_key`."""
        channel = self._channel_for("bind_to")
        channel.queue_bind(self.name, name_of(exchange), routing_key, arguments)

    def unbind_from(
        self,
        exchange: Exchange | str,
        routing_key: str = "",
        arguments: Arguments | None = None,
        *,
        nowait: bool = False,
    ) -> None:
        """Undo `bind_to`, with the same arguments."""
        channel = self._channel_for("unbind_from")
        channel.queue_unbind(self.name, name_of(exchange), routing_key, arguments)

    # -- messages --------------------------------------------------------------------------

    def get(
        self, no_ack: bool | None = None, accept: Collection[str] | None = None
    ) -> Message | None:
        """Fetch one message; None if there is none. Does not wait.

        Args:
            no_ack: It counts as acknowledged; None: as the queue was told.
            accept: Serializers or content types that may be decoded; None: those of the
                connection, or the enabled ones.

        Raises:
            UnknownCodecError: `accept` names a serializer that is not there; nothing was fetched.
        """
        channel = self._channel_for("get")
        content_types = default_registry.resolve_accept(accepted_by(channel, accept))
        message = channel.basic_get(self.name, no_ack=self.no_ack if no_ack is None else no_ack)
        if message is not None:
            message.accept = content_types
        return message

    def purge(self, *, nowait: bool = False) -> int:
        """Delete the messages that wait, not those that are unacknowledged; tell how many."""
        return self._channel_for("purge").queue_purge(self.name)

    def consume(
        self,
        consumer_tag: str = "",
        callback: MessageCallback | None = None,
        no_ack: bool | None = None,
        *,
        nowait: bool = False,
        exclusive: bool = False,
        on_cancel: CancelCallback | None = None,
    ) -> str:
        """Subscribe; `callback` gets each message while the connection is drained.

        Args:
            consumer_tag: Empty: the transport makes one up.
            callback: Required; it comes second for callers of kombu.
            no_ack: Messages count as acknowledged when delivered; None: as the queue was told.
            nowait: Means nothing.
            exclusive: Nobody else may consume from it.
            on_cancel: Called with the tag when the broker ends the subscription.

        Returns:
            The tag, for `cancel`.
        """
        channel = self._channel_for("consume")
        if callback is None:
            raise TypeError("Queue.consume() needs a callback")
        return channel.basic_consume(
            self.name,
            callback,
            consumer_tag=consumer_tag or "",
            no_ack=self.no_ack if no_ack is None else no_ack,
            exclusive=exclusive,
            arguments=self.consumer_arguments,
            on_cancel=on_cancel,
        )

    def cancel(self, consumer_tag: str) -> None:
        """End a subscription; no error if there is none."""
        self._channel_for("cancel").basic_cancel(consumer_tag)

    def delete(
        self, if_unused: bool = False, if_empty: bool = False, *, nowait: bool = False
    ) -> int:
        """Delete it; tell how many messages waited.

        Raises:
            PreconditionFailedError: `if_unused` and it has consumers, `if_empty` and it has
                messages.
        """
        channel = self._channel_for("delete")
        deleted = channel.queue_delete(self.name, if_unused=if_unused, if_empty=if_empty)
        self._forget()
        return deleted

    def __str__(self) -> str:
        sources = [str(item) for item in self.bindings]
        if self.exchange is not None:
            sources.insert(0, f"{self.exchange} -> {self.routing_key or repr('')}")
        return f"Queue {self.name or repr('')} -> {', '.join(sources)}"


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
