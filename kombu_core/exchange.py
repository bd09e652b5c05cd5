"""Exchanges, and the bindings from them, as an application declares them.

They are values until they are bound to a channel; see `kombu_core.declaration`. Operations block
for a round trip to the broker; their `nowait` exists for callers of kombu and means nothing here:
the answer is always waited for, so an error is raised where it was caused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from kombu_core.declaration import Entity, HasDefaultChannel
from kombu_core.exceptions import ConfigurationError
from kombu_core.message import PERSISTENT, TRANSIENT, Envelope, Properties
from kombu_core.serialization import default_registry

if TYPE_CHECKING:
    from kombu_core.entity import Queue
    from kombu_core.transport import Arguments, Channel

DELIVERY_MODES: Final = {"transient": TRANSIENT, "persistent": PERSISTENT}


class Exchange(Entity):
    """An exchange: where messages are published to.

    Args:
        name: Empty: the default exchange, which routes to the queue named by the routing key.
        type: direct, fanout, topic, headers, or one that the transport's plugins add.
        channel: Bind it at once.
        durable: It survives a restart of the broker.
        auto_delete: It goes with its last binding.
        internal: Only other exchanges may publish to it (RabbitMQ).
        delivery_mode: For messages published through it, unless they say: 1 or `transient`, 2
            or `persistent`; None leaves it to the producer.
        arguments: Of exchange.declare, as `alternate-exchange`.
        passive: `declare` only checks that it exists.
        no_declare: `declare` does nothing.
    """

    __slots__ = (
        "arguments",
        "auto_delete",
        "delivery_mode",
        "durable",
        "internal",
        "name",
        "no_declare",
        "passive",
        "type",
    )

    TRANSIENT_DELIVERY_MODE: ClassVar[int] = TRANSIENT
    PERSISTENT_DELIVERY_MODE: ClassVar[int] = PERSISTENT

    _fields = (
        "name",
        "type",
        "durable",
        "auto_delete",
        "internal",
        "delivery_mode",
        "arguments",
        "passive",
        "no_declare",
    )

    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    delivery_mode: int | None
    arguments: Arguments | None
    passive: bool
    no_declare: bool

    def __init__(
        self,
        name: str = "",
        type: str = "direct",
        channel: Channel | HasDefaultChannel | None = None,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        delivery_mode: int | str | None = None,
        arguments: Arguments | None = None,
        passive: bool = False,
        no_declare: bool = False,
    ) -> None:
        self._initialize(
            channel,
            name=name or "",
            type=type or "direct",
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            delivery_mode=to_delivery_mode(delivery_mode),
            arguments=arguments,
            passive=passive,
            no_declare=no_declare,
        )

    def declare(self, *, nowait: bool = False, passive: bool | None = None) -> None:
        """Create it, or check that the one there is equal. Nothing for the default exchange.

        The broker's own (`amq.…`) are only checked for existence, as nobody may create one.

        Args:
            nowait: Means nothing.
            passive: Check only that it exists; None: as the exchange was told.
        """
        channel = self._channel_for("declare")
        if self.no_declare or not self.name:
            return
        check_only = self.passive if passive is None else passive
        channel.exchange_declare(
            self.name,
            self.type,
            passive=check_only or self.name.startswith("amq."),
            durable=self.durable,
            auto_delete=self.auto_delete,
            internal=self.internal,
            arguments=self.arguments,
        )
        self._remember()

    def delete(self, if_unused: bool = False, *, nowait: bool = False) -> None:
        """Delete it with its bindings; `if_unused`: only if it has none."""
        self._channel_for("delete").exchange_delete(self.name, if_unused=if_unused)
        self._forget()

    def publish(
        self,
        body: bytes | str,
        routing_key: str = "",
        *,
        mandatory: bool = False,
        properties: Properties | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish a body as it is: text as `text/plain`, bytes as `application/data`.

        Returns when the broker has it. A Producer does more: serializers, retries, declarations.

        Args:
            body: The message.
            routing_key: What the exchange routes by.
            mandatory: It comes back if no queue wants it; see `Channel.basic_publish`.
            properties: AMQP's, over the content type and delivery mode that it gets otherwise.
            headers: The headers table.
        """
        channel = self._channel_for("publish")
        encoded = default_registry.dumps(body, "text" if isinstance(body, str) else "raw")
        complete: Properties = {
            "content_type": encoded.content_type,
            "content_encoding": encoded.content_encoding,
            "delivery_mode": self.delivery_mode or PERSISTENT,
        }
        complete.update(properties or {})
        envelope = Envelope(encoded.body, complete, headers or {}, self.name, routing_key or "")
        channel.basic_publish(envelope, mandatory=mandatory)

    def bind_to(
        self,
        exchange: Exchange | str,
        routing_key: str = "",
        arguments: Arguments | None = None,
        *,
        nowait: bool = False,
    ) -> None:
        """Receive what another exchange routes by `routing_key`."""
        channel = self._channel_for("bind_to")
        channel.exchange_bind(self.name, name_of(exchange), routing_key, arguments)

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
        channel.exchange_unbind(self.name, name_of(exchange), routing_key, arguments)

    def binding(
        self,
        routing_key: str = "",
        arguments: Arguments | None = None,
        unbind_arguments: Arguments | None = None,
    ) -> Binding:
        """Return a binding from this exchange."""
        return Binding(self, routing_key, arguments, unbind_arguments)

    @property
    def can_cache_declaration(self) -> bool:
        """Whether it stays once it was declared, so that nobody needs to declare it again."""
        return not self.auto_delete

    def __str__(self) -> str:
        return f"Exchange {self.name or repr('')}({self.type})"


@dataclass(frozen=True, slots=True, repr=False)
class Binding:
    """What a queue (or exchange) receives from `exchange`, as one of several.

    Attributes:
        exchange: The source; a name becomes an Exchange.
        routing_key: What must match, by the type of the exchange.
        arguments: Of the bind, as the headers that a headers exchange matches.
        unbind_arguments: Of the unbind; None: the same.
    """

    exchange: Exchange
    routing_key: str = ""
    arguments: Arguments | None = None
    unbind_arguments: Arguments | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "exchange", to_exchange(self.exchange))

    def declare(self, channel: Channel | HasDefaultChannel) -> None:
        """Declare its exchange."""
        self.exchange.bind(channel).declare()

    def bind(self, entity: Queue | Exchange) -> None:
        """Make the binding, to a bound queue or exchange."""
        entity.bind_to(self.exchange, self.routing_key, self.arguments)

    def unbind(self, entity: Queue | Exchange) -> None:
        """Undo `bind`."""
        arguments = self.arguments if self.unbind_arguments is None else self.unbind_arguments
        entity.unbind_from(self.exchange, self.routing_key, arguments)

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """Return what the constructor takes; `recurse`: its exchange as a dict too."""
        return {
            "exchange": self.exchange.as_dict() if recurse else self.exchange,
            "routing_key": self.routing_key,
            "arguments": self.arguments,
            "unbind_arguments": self.unbind_arguments,
        }

    def __hash__(self) -> int:
        return hash((Binding, self.exchange, self.routing_key))

    def __str__(self) -> str:
        return f"{self.exchange.name}->{self.routing_key}"

    def __repr__(self) -> str:
        return f"<binding: {self}>"


def to_exchange(value: object) -> Exchange:
    """Return the exchange that an exchange, its name or its `as_dict` stands for."""
    if isinstance(value, Exchange):
        return value
    if isinstance(value, str):
        return Exchange(value)
    if isinstance(value, Mapping):
        return Exchange(**value)
    raise ConfigurationError(f"{type(value).__name__} is neither an Exchange nor the name of one")


def name_of(exchange: Exchange | str) -> str:
    """Return the name of an exchange that may be given as its name."""
    return exchange if isinstance(exchange, str) else exchange.name


def to_delivery_mode(value: int | str | None) -> int | None:
    mode = DELIVERY_MODES.get(value, value) if isinstance(value, str) else value
    if mode is None or (isinstance(mode, int) and mode in (TRANSIENT, PERSISTENT)):
        return mode
    raise ConfigurationError(
        f"delivery_mode is {value!r}, not 1 or 'transient', 2 or 'persistent', or None"
    )
