"""Contract 1: what a transport offers to the application API: the methods of AMQP 0-9-1.

A *native* transport maps them to a broker that speaks AMQP; the *virtual* one
(`kombu_core.virtual`) makes them from a store. Rules for both:

* A `Transport` is one connection to one broker. A `Channel` belongs to it.
* Publishing and settling are allowed from any thread; everything else on a channel belongs to one
  thread at a time. `drain_events` is called by one thread at a time for each transport.
* A broker's refusal raises a `ChannelError` and closes that channel only; a lost connection
  raises `ConnectionLostError` and closes everything on it.
* Driver exceptions never come out; an exception of an application's callback always does, as it
  is.
* No method blocks for ever: each has the `timeout` it was given or the transport's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kombu_core.capabilities import Capabilities
    from kombu_core.connection import Connection
    from kombu_core.message import Envelope, Message
    from kombu_core.plugins import Plugins
    from kombu_core.url import BrokerURL

Arguments = Mapping[str, Any]
MessageCallback = Callable[["Message"], object]
#: Called with the consumer's tag when the broker cancels it.
CancelCallback = Callable[[str], object]
#: Called with what came back and AMQP's reply code and text.
ReturnCallback = Callable[["Envelope", int, str], object]


class QueueDeclareOk(NamedTuple):
    """The answer to `queue.declare` (AMQP 0-9-1, queue.declare-ok)."""

    queue: str
    message_count: int
    consumer_count: int


class Publication(NamedTuple):
    """One message of a batch."""

    envelope: Envelope
    mandatory: bool = False
    #: Seconds until it becomes visible in the queues that it was routed to.
    delay: float = 0.0


class Channel(Protocol):
    """One AMQP channel.

    Methods take and mean what AMQP 0-9-1 says of the method of the same name; what RabbitMQ adds
    is named. Declaring, binding and deleting are idempotent as there.
    """

    channel_id: int

    @property
    def transport(self) -> Transport:
        """The connection that this channel is on."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether methods can be called on it."""
        ...

    # -- exchanges -------------------------------------------------------------------------

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """Create an exchange, or check that the existing one is equal.

        Raises:
            PreconditionFailedError: It exists with other attributes.
            NotFoundError: `passive`, and there is none.
            AccessRefusedError: The name is reserved.
            UnsupportedError: The transport does not have that type.
        """
        ...

    def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> None:
        """Delete an exchange and its bindings; no error if there is none (as RabbitMQ)."""
        ...

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        """Let `destination` receive what `source` routes by `routing_key` (RabbitMQ)."""
        ...

    def exchange_unbind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        """Undo `exchange_bind`; no error if there is no such binding."""
        ...

    # -- queues ----------------------------------------------------------------------------

    def queue_declare(
        self,
        queue: str = "",
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> QueueDeclareOk:
        """Create a queue (named by the broker if `queue` is empty), or check the existing one.

        Raises:
            PreconditionFailedError: It exists with other attributes.
            NotFoundError: `passive`, and there is none.
            ResourceLockedError: It is exclusive to another connection.
            AccessRefusedError: The name is reserved.
            UnsupportedError: An argument asks for what the transport does not have.
        """
        ...

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        """Let `queue` receive what `exchange` routes by `routing_key`."""
        ...

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> None:
        """Undo `queue_bind`; no error if there is no such binding."""
        ...

    def queue_purge(self, queue: str) -> int:
        """Delete the ready messages and return how many; unacknowledged ones stay."""
        ...

    def queue_delete(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue, return how many messages were ready; 0 if there is none (RabbitMQ)."""
        ...

    # -- publishing ------------------------------------------------------------------------

    def basic_publish(
        self,
        envelope: Envelope,
        *,
        mandatory: bool = False,
        delay: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        """Publish, and return when the broker has taken the responsibility (a confirm).

        Inside a transaction it returns at once. `delay` is in seconds.

        Raises:
            NotFoundError: There is no such exchange.
            UnroutableError: `mandatory`, no queue wanted it, and no `on_return` was set.
            PublishRejectedError: The broker refused to store it.
            OperationTimeoutError: No confirm within `timeout` seconds; it may be stored or not.
        """
        ...

    def basic_publish_batch(
        self, publications: Sequence[Publication], *, timeout: float | None = None
    ) -> None:
        """Publish many at the price of few round trips; returns when all are confirmed.

        Raises:
            BatchPublishError: Some were not stored; it names them, the others are stored.
        """
        ...

    def set_return_callback(self, callback: ReturnCallback | None) -> None:
        """Give returned mandatory messages to `callback` instead of raising UnroutableError."""
        ...

    # -- consuming -------------------------------------------------------------------------

    def basic_get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        """Fetch one message; None if the queue is empty. Does not wait."""
        ...

    def basic_consume(
        self,
        queue: str,
        callback: MessageCallback,
        *,
        consumer_tag: str = "",
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Arguments | None = None,
        on_cancel: CancelCallback | None = None,
    ) -> str:
        """Subscribe; `Transport.drain_events` calls `callback`. Returns the consumer's tag."""
        ...

    def basic_cancel(self, consumer_tag: str) -> None:
        """End a subscription; what it has unacknowledged stays so. Unknown tags are ignored."""
        ...

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> None:
        """Limit the unacknowledged messages: of each consumer started from now on, or
        (`apply_global`) of the whole channel, as RabbitMQ reads it. 0: no limit.
        """
        ...

    def basic_recover(self, requeue: bool = True) -> None:
        """Requeue everything that is unacknowledged on this channel."""
        ...

    def flow(self, active: bool) -> None:
        """Pause or resume deliveries on this channel."""
        ...

    # -- settling --------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to it; tag 0 with `multiple`: all there are.

        Raises:
            PreconditionFailedError: The tag is unknown or settled (closes the channel).
            LeaseLostError: The claim ran out before.
        """
        ...

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse one delivery, or all up to it (RabbitMQ). Raises as `basic_ack`."""
        ...

    def basic_reject(self, delivery_tag: int, requeue: bool = True) -> None:
        """Refuse one delivery. Raises as `basic_ack`."""
        ...

    # -- transactions and the channel itself -----------------------------------------------

    def confirm_select(self) -> None:
        """Ask for confirms. They are on already, so this only documents a wish."""
        ...

    def tx_select(self) -> None:
        """Make the channel transactional: publishes and settles wait for `tx_commit`."""
        ...

    def tx_commit(self) -> None:
        """Apply what waits, in one step where the transport has `atomic_commit`."""
        ...

    def tx_rollback(self) -> None:
        """Forget what waits."""
        ...

    def close(self) -> None:
        """Requeue what is unacknowledged and end the channel. Idempotent."""
        ...

    def __enter__(self) -> Self:
        """Return itself; the end of a `with` block closes it. See `kombu_core.closing`."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class JoinsTransactions(Protocol):
    """A transport with the capability `joined_transactions`: its broker is a database."""

    def joined(self, transaction: Any) -> AbstractContextManager[None]:
        """Let what this thread publishes and settles in a block be part of a transaction.

        Nothing is committed here: the application does that, or rolls back, also after the block.

        Args:
            transaction: The application's own, as the transport knows it.

        Raises:
            ConfigurationError: It is nothing that the transport can take part in.
        """
        ...


class Transport(Protocol):
    """One connection to one broker. Made by a plugin's class; see `hookspecs`."""

    #: The application's connection that uses it, set by that; None for a transport on its own.
    client: Connection | None

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; constant."""
        ...

    @property
    def driver_type(self) -> str:
        """The kind of broker, as `amqp` or `redis`."""
        ...

    @property
    def driver_name(self) -> str:
        """The library that talks to it, as `redis-py`."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether it was connected and neither closed nor found broken."""
        ...

    def connect(self) -> None:
        """Connect and authenticate, within the connect timeout.

        Raises:
            ConnectError: The broker cannot be reached.
            AuthenticationError: It refused the credentials.
        """
        ...

    def channel(self) -> Channel:
        """Open a new channel."""
        ...

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one event and handle it: one delivery, one cancel notification.

        Args:
            timeout: Seconds; None waits until something comes.

        Raises:
            OperationTimeoutError: Nothing came.
            ConnectionLostError: The broker went away.
        """
        ...

    def heartbeat_check(self) -> None:
        """Raise ConnectionLostError if the broker has been silent for too long."""
        ...

    def close(self) -> None:
        """Close all channels, then the connection. Idempotent; raises nothing of the broker."""
        ...


class TransportParameters(NamedTuple):
    """What a transport is made from."""

    url: BrokerURL
    #: `transport_options` of the connection; each plugin validates them by its options dataclass.
    options: Mapping[str, Any]
    #: Seconds for connecting and authenticating.
    connect_timeout: float = 5.0
    #: Seconds between heartbeats, 0 for none, None for the transport's own choice.
    heartbeat: float | None = None
    #: An `ssl.SSLContext`, True for a verified default one, or None to let the scheme decide.
    ssl: Any = None
    #: What is installed, for a transport that lets other plugins extend it.
    plugins: Plugins | None = None


class TransportClass(Protocol):
    """What a plugin returns for a scheme: usually a class that implements `Transport`."""

    def __call__(self, parameters: TransportParameters) -> Transport:
        """Make an unconnected transport; raises ConfigurationError for bad parameters."""
        ...
