"""Publishing: a value becomes an envelope, and an envelope is confirmed by the broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, cast

from kombu_core.declaration import channel_of
from kombu_core.entity import Exchange, Queue
from kombu_core.exceptions import (
    BatchPublishError,
    ConfigurationError,
    EncodeError,
    UnsupportedError,
)
from kombu_core.exchange import to_delivery_mode
from kombu_core.message import PERSISTENT, Envelope, Properties
from kombu_core.serialization import Registry, default_registry
from kombu_core.transport import Channel, Publication

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from kombu_core.connection import Connection
    from kombu_core.transport import JoinsTransactions, ReturnCallback

#: Messages of a batch that are sent together, unless it was made with another size.
DEFAULT_BATCH_SIZE: Final = 1000

_PROPERTIES: Final = frozenset(Properties.__annotations__)


class Producer:
    """Publishes to an exchange. Threads may share it; `publish` blocks until it is confirmed.

    Args:
        channel: A channel, or a connection, whose default channel is used then.
        exchange: Where to, unless a publish says otherwise; None for the default exchange.
        routing_key: Unless a publish says otherwise.
        serializer: Name; None: text and bytes as they are, all else as JSON.
        auto_declare: Declare the exchange before the first publish.
        compression: Name of a compression for all bodies.
        on_return: Called with the envelope, code and text of a mandatory message that no queue
            wanted; without it `publish` raises UnroutableError.
        registry: Serializers and compressions.
        compress_from: Bytes from which a body is compressed by `compression`. A compression that is
            named by a publish is applied to any.
    """

    def __init__(
        self,
        channel: Channel | Connection,
        exchange: Exchange | str | None = None,
        routing_key: str = "",
        serializer: str | None = None,
        auto_declare: bool = True,
        compression: str | None = None,
        on_return: ReturnCallback | None = None,
        *,
        registry: Registry = default_registry,
        compress_from: int = 0,
    ) -> None:
        self.exchange = exchange if isinstance(exchange, Exchange) else Exchange(exchange or "")
        self.routing_key = routing_key
        self.serializer = serializer
        self.auto_declare = auto_declare
        self.compression = compression
        self.compress_from = compress_from
        self.on_return = on_return
        self._registry = registry
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._declared: set[Exchange | Queue] = set()
        self._batches: dict[int, ProducerBatch] = {}
        self._publishing: Callable[..., Any] | None = None
        self._published: Callable[..., Any] | None = None
        if hasattr(type(channel), "default_channel"):  # Of an instance, it would connect.
            self._connection = cast("Connection", channel)
            # The first publish may name a serializer that a plugin adds.
            self._connection.plugins.load_extensions()
        else:
            self._attach(cast("Channel", channel))

    # -- the channel -----------------------------------------------------------------------

    @property
    def channel(self) -> Channel:
        """The channel in use; of a connection, its default one, opened when it is needed."""
        channel = self._channel
        if channel is None or (self._connection is not None and not channel.is_open):
            if self._connection is None:
                raise ConfigurationError("The producer has no channel")
            channel = self._connection.default_channel
            self._attach(channel)
        return channel

    @property
    def used_channel(self) -> Channel | None:
        """The channel in use, None before the first; unlike `channel`, opens none."""
        return self._channel

    def revive(self, channel: Channel | Connection) -> None:
        """Go on with another channel, as after a reconnect; declares anew what is needed."""
        new = channel_of(channel)
        if new is not self._channel:
            self._attach(new)

    def _attach(self, channel: Channel) -> None:
        self._channel = channel
        self._declared = set()
        if self.on_return is not None:
            channel.set_return_callback(self.on_return)
        client = channel.transport.client
        if client is not None:
            client.recovery.uses(self)
            self._publishing = client.plugins.observer("kombu_message_publishing")
            self._published = client.plugins.observer("kombu_message_published")
        if self.auto_declare and self.exchange.name:
            self._declare(self.exchange, channel)

    def declare(self) -> None:
        """Declare the exchange."""
        if self.exchange.name:
            self.exchange(self.channel).declare()

    def maybe_declare(self, entity: Exchange | Queue) -> bool:
        """Declare an exchange or queue unless this producer did already; tell whether it did."""
        return self._declare(entity, self.channel)

    def _declare(self, entity: Exchange | Queue, channel: Channel) -> bool:
        if entity in self._declared:
            return False
        entity(channel).declare()
        if not isinstance(entity, Queue) or entity.can_cache_declaration:
            self._declared.add(entity)
        return True

    # -- publishing ------------------------------------------------------------------------

    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        delivery_mode: int | str | None = None,
        mandatory: bool = False,
        immediate: bool = False,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        serializer: str | None = None,
        headers: Mapping[str, Any] | None = None,
        compression: str | None = None,
        exchange: Exchange | str | None = None,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        declare: Iterable[Exchange | Queue] | None = None,
        expiration: float | None = None,
        timeout: float | None = None,
        delay: float = 0.0,
        deliver_at: datetime | None = None,
        session: Any = None,
        connection: Any = None,
        **properties: Any,
    ) -> None:
        """Publish one message; returns when the broker has confirmed it.

        Args:
            body: The value; with `content_type`, the text or bytes to be sent as they are.
            routing_key: None for the producer's.
            delivery_mode: 1 or `transient`, 2 or `persistent`; None for the exchange's.
            mandatory: An error, or a call of `on_return`, if no queue gets it.
            immediate: Refused, as by RabbitMQ since 3.0.
            priority: 0 to 255, the highest first, in queues with `max_priority`.
            content_type: The body is encoded already, and this is what it is.
            content_encoding: Its character set, or `binary`.
            serializer: Name of a serializer, None for the producer's.
            headers: The application's.
            compression: Name of a compression, None for the producer's, empty for none.
            exchange: None for the producer's.
            retry: Reconnect and try again if the connection is lost. What was sent before it
                broke may then be stored twice.
            retry_policy: max_retries, interval_start, interval_step, interval_max; in seconds.
            declare: What to declare first; done once for each channel.
            expiration: Seconds until the message dies unread.
            timeout: Seconds for the confirm.
            delay: Seconds until consumers can see it.
            deliver_at: The moment from which they can, instead of `delay`; with a time zone.
            session: A transaction of the application's own that the message is part of, where
                the broker is a database that has it: a session of an ORM. The message exists if
                and only if that is committed. What has to be declared is declared before, and
                outside of it.
            connection: The same, as a connection of the database; instead of `session`.
            **properties: correlation_id, reply_to, message_id, timestamp, type, user_id, app_id,
                cluster_id.

        Raises:
            EncodeError: The body cannot be written.
            NotFoundError: There is no such exchange.
            UnsupportedError: The transport takes part in no transaction (`session`).
            UnroutableError: It is mandatory, no queue wanted it, and there is no `on_return`.
            PublishRejectedError: A full queue refused it.
            OperationTimeoutError: It was not confirmed in time; it may be stored or not.
            ConnectionLostError: The connection broke; it may be stored or not.
        """
        if immediate:
            raise UnsupportedError("immediate", "AMQP 0-9-1", "RabbitMQ removed it; use mandatory")
        target = self.exchange
        if exchange is not None:
            if isinstance(exchange, Exchange):
                target = exchange
            name = target.name if target is exchange else str(exchange)
        else:
            name = target.name
        if content_type is None:
            content_type, content_encoding, data = self._registry.dumps(
                body, serializer or self.serializer
            )
        else:
            content_encoding, data = _encoded(body, content_type, content_encoding)
        all_headers = dict(headers) if headers else {}
        if compression is None and len(data) >= self.compress_from:
            compression = self.compression
        if compression:
            data, all_headers["compression"] = self._registry.compress(data, compression)
        basic: Properties = {
            "content_type": content_type,
            "content_encoding": content_encoding,
            "delivery_mode": (
                to_delivery_mode(delivery_mode) or target.delivery_mode or PERSISTENT
                if delivery_mode is not None
                else target.delivery_mode or PERSISTENT
            ),
        }
        if priority is not None:
            if not 0 <= priority <= 255:
                raise ConfigurationError(f"priority is {priority}, not within 0 and 255")
            basic["priority"] = priority
        if expiration is not None:
            basic["expiration"] = str(round(expiration * 1000))
        if properties:
            _add_properties(basic, properties)
        if deliver_at is not None:
            if deliver_at.tzinfo is None:
                raise ConfigurationError("deliver_at needs a time zone, as datetime.now(UTC) has")
            delay = max(0.0, deliver_at.timestamp() - time.time())
        envelope = Envelope(
            data, basic, all_headers, name, self.routing_key if routing_key is None else routing_key
        )
        declare = tuple(declare) if declare else ()
        batch = self._batches.get(get_ident()) if self._batches else None
        if session is not None and connection is not None:
            raise ConfigurationError("session and connection are two transactions: give one")
        if session is not None or connection is not None:
            if batch is not None or retry:
                raise ConfigurationError(
                    "A publish in the application's transaction (session, connection) cannot be "
                    "part of a batch or be retried: publish it before the batch, and retry the "
                    "transaction"
                )
            within = connection if session is None else session
            self._send_within(within, envelope, mandatory, delay, timeout, declare)
        elif batch is not None:
            for entity in declare:
                self.maybe_declare(entity)
            batch.add(Publication(envelope, mandatory, delay))
        elif retry:
            self._with_retry(
                partial(self._send, envelope, mandatory, delay, timeout, declare),
                retry_policy,
            )
        else:
            self._send(envelope, mandatory, delay, timeout, declare)

    def _send(
        self,
        envelope: Envelope,
        mandatory: bool,
        delay: float,
        timeout: float | None,
        declare: Iterable[Exchange | Queue],
    ) -> None:
        channel = self.channel
        for entity in declare:
            self.maybe_declare(entity)
        if self._publishing is not None:
            self._publishing(transport=channel.transport, envelope=envelope)
        if self._published is None:
            channel.basic_publish(envelope, mandatory=mandatory, delay=delay, timeout=timeout)
            return
        error: BaseException | None = None
        try:
            channel.basic_publish(envelope, mandatory=mandatory, delay=delay, timeout=timeout)
        except BaseException as exc:
            error = exc
            raise
        finally:
            self._published(transport=channel.transport, envelope=envelope, error=error)

    def _send_within(
        self,
        transaction: Any,
        envelope: Envelope,
        mandatory: bool,
        delay: float,
        timeout: float | None,
        declare: Iterable[Exchange | Queue],
    ) -> None:
        transport = self.channel.transport
        transport.capabilities.require("joined_transactions", "session= of a publish")
        for entity in declare:
            self.maybe_declare(entity)
        with cast("JoinsTransactions", transport).joined(transaction):
            self._send(envelope, mandatory, delay, timeout, ())

    def _with_retry(self, send: Callable[[], None], policy: Mapping[str, Any] | None) -> None:
        connection = self._connection or self.channel.transport.client
        if connection is None:
            raise ConfigurationError("retry=True needs a channel that was made by a Connection")
        connection.ensure(self, send, **{"max_retries": 3, **(policy or {})})()

    def publish_many(
        self, bodies: Iterable[Any], routing_key: str | None = None, **options: Any
    ) -> None:
        """Publish many bodies in few round trips; options as `publish`.

        Raises:
            BatchPublishError: Some were not stored, and which.
        """
        with self.batch():
            for body in bodies:
                self.publish(body, routing_key, **options)

    def batch(self, max_size: int = DEFAULT_BATCH_SIZE) -> ProducerBatch:
        """Collect what this thread publishes in a `with` block, and send it together.

        Sent at the end of the block and each time that `max_size` messages wait. If the block
        raises, what was not sent yet is discarded. A batch in a batch sends what waits in the
        outer one first, so the order is kept. `retry` and `timeout` of a publish mean nothing here.

        Raises:
            BatchPublishError: From the block's end or a publish: some were not stored. It counts
                from the beginning of the block.
        """
        return ProducerBatch(self, max_size)

    def begin_batch(self, batch: ProducerBatch) -> ProducerBatch | None:
        """Let this thread's publishes go into `batch`; return where they went before, if so."""
        outer = self._batches.get(get_ident())
        self._batches[get_ident()] = batch
        return outer

    def end_batch(self, outer: ProducerBatch | None) -> None:
        """Let this thread's publishes go to where they went before."""
        if outer is None:
            self._batches.pop(get_ident(), None)
        else:
            self._batches[get_ident()] = outer

    def send_batch(self, publications: Sequence[Publication]) -> None:
        """Publish messages together. Raises BatchPublishError."""
        channel = self.channel
        transport = channel.transport
        if self._publishing is not None:
            for publication in publications:
                self._publishing(transport=transport, envelope=publication.envelope)
        if self._published is None:
            channel.basic_publish_batch(publications)
            return
        errors: Mapping[int, BaseException] = {}
        try:
            channel.basic_publish_batch(publications)
        except BatchPublishError as exc:
            errors = exc.failed
            raise
        except BaseException as exc:
            errors = dict.fromkeys(range(len(publications)), exc)
            raise
        finally:
            for position, publication in enumerate(publications):
                self._published(
                    transport=transport,
                    envelope=publication.envelope,
                    error=errors.get(position),
                )

    # -- the rest --------------------------------------------------------------------------

    def release(self) -> None:
        """Nothing: a producer owns nothing but what its connection does."""

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Producer: {self.exchange} {self.routing_key!r}>"


class ProducerBatch:
    """See `Producer.batch`."""

    def __init__(self, producer: Producer, max_size: int) -> None:
        if max_size < 1:
            raise ConfigurationError(f"max_size of a batch is {max_size!r}, not a positive number")
        self._producer = producer
        self._max_size = max_size
        self._waiting: list[Publication] = []
        self._sent = 0
        self._outer: ProducerBatch | None = None

    def add(self, publication: Publication) -> None:
        """Take in one message, and send all if there are enough."""
        self._waiting.append(publication)
        if len(self._waiting) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Send what waits. Raises BatchPublishError."""
        if self._outer is not None:
            self._outer.flush()
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        before, self._sent = self._sent, self._sent + len(waiting)
        try:
            self._producer.send_batch(waiting)
        except BatchPublishError as error:
            if not before:
                raise
            failed = {before + position: reason for position, reason in error.failed.items()}
            raise BatchPublishError(failed, self._sent) from error

    def __enter__(self) -> Producer:
        self._sent = 0
        self._outer = self._producer.begin_batch(self)
        return self._producer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._producer.end_batch(self._outer)
        if error is None:
            self.flush()
        else:
            self._waiting.clear()


def _encoded(body: Any, content_type: str, content_encoding: str | None) -> tuple[str, bytes]:
    """Return the encoding and the bytes of a body that is sent as it is."""
    if isinstance(body, str):
        content_encoding = content_encoding or "utf-8"
        try:
            return content_encoding, body.encode(content_encoding)
        except (LookupError, UnicodeError) as error:
            raise EncodeError(f"The text cannot be written in {content_encoding!r}") from error
    if isinstance(body, bytes | bytearray | memoryview):
        return content_encoding or "binary", bytes(body)
    raise EncodeError(
        f"With content_type={content_type!r} the body is sent as it is: text or bytes are wanted, "
        f"not {type(body).__name__}"
    )


def _add_properties(basic: Properties, given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - _PROPERTIES)
    if unknown:
        raise TypeError(
            f"publish() got an unexpected property {unknown[0]!r} "
            f"(AMQP has {', '.join(sorted(_PROPERTIES))})"
        )
    basic.update({name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]
