"""RabbitMQ itself behind the Channel contract: a thin adapter over py-amqp, for comparison only.

What the kit expects of every transport has to hold here first. It takes no short cuts of its own:
each call goes to the server, and a settle waits until the server has had its say.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import amqp
from amqp import exceptions as driver

from kombu_core.capabilities import Capabilities
from kombu_core.closing import Closing
from kombu_core.exceptions import (
    AccessRefusedError,
    AuthenticationError,
    BatchPublishError,
    BrokerError,
    ChannelError,
    ConnectError,
    ConnectionLostError,
    NotFoundError,
    NothingCameError,
    PreconditionFailedError,
    PublishRejectedError,
    ResourceLockedError,
    UnroutableError,
    UnsupportedError,
    map_errors,
)
from kombu_core.message import Envelope, Message, Properties
from kombu_core.transport import Publication, QueueDeclareOk, ReturnCallback

if TYPE_CHECKING:
    from kombu_core.connection import Connection

CAPABILITIES = Capabilities(
    name="oracle",
    exclusive_consumers=True,
    transactions=True,
    flow=False,  # RabbitMQ: "active=false" is not implemented
    priorities=True,
    message_ttl=True,
    queue_expires=True,
    dead_letters=True,
    max_length=True,
    max_length_bytes=True,
    single_active_consumer=True,
    consumer_priorities=True,
    delivery_limit=True,
    delay=False,
    direct_reply=True,
)
ERRORS: dict[type[BaseException], type[BrokerError]] = {
    driver.NotFound: NotFoundError,
    driver.AccessRefused: AccessRefusedError,
    driver.ResourceLocked: ResourceLockedError,
    driver.PreconditionFailed: PreconditionFailedError,
    driver.ChannelError: ChannelError,
    driver.AMQPError: ConnectionLostError,
    OSError: ConnectionLostError,
}
CONNECT_ERRORS: dict[type[BaseException], type[BrokerError]] = {
    driver.AccessRefused: AuthenticationError,
    driver.AMQPError: ConnectError,
    OSError: ConnectError,
}
PROPERTIES = tuple(Properties.__annotations__)
TIMEOUT = 10.0


class OracleConnection:
    """One connection to RabbitMQ, transport and connection in one."""

    capabilities = CAPABILITIES
    driver_type = "amqp"
    driver_name = "py-amqp"
    client: Connection | None = None

    def __init__(self, url: str, transport_options: Mapping[str, Any] | None = None) -> None:
        parts = urlsplit(url)
        self.lock = threading.RLock()
        #: What `drain_events` has still to do, and for which channel and consumer.
        self.events: deque[tuple[OracleChannel, str, Callable[[], object]]] = deque()
        self._driver = amqp.Connection(
            f"{parts.hostname}:{parts.port or 5672}",
            userid=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            virtual_host=unquote(parts.path[1:]) or "/",
            connect_timeout=TIMEOUT,
            read_timeout=TIMEOUT,
            write_timeout=TIMEOUT,
        )

    @property
    def transport(self) -> OracleConnection:
        return self

    @property
    def is_connected(self) -> bool:
        return bool(self._driver.connected)

    def connect(self) -> None:
        with self.lock, map_errors(CONNECT_ERRORS):
            self._driver.connect()

    def channel(self) -> OracleChannel:
        if not self.is_connected:
            self.connect()
        with self.lock, map_errors(ERRORS):
            return OracleChannel(self, self._driver.channel())

    def drain_events(self, timeout: float | None = None) -> None:
        deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        while not self.events:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NothingCameError("nothing came")
            with self.lock, map_errors(ERRORS):
                try:
                    self._driver.drain_events(timeout=left)
                except TimeoutError:
                    continue
        _, _, event = self.events.popleft()
        event()

    def heartbeat_check(self) -> None:
        with self.lock, map_errors(ERRORS):
            self._driver.heartbeat_tick()

    def release(self) -> None:
        self.events.clear()
        with self.lock:
            try:
                self._driver.close()
            except (driver.AMQPError, OSError):
                self._driver.collect()

    close = release


class OracleChannel(Closing):
    """One channel of RabbitMQ."""

    def __init__(self, connection: OracleConnection, channel: Any) -> None:
        self.transport = connection
        self.channel_id: int = channel.channel_id
        self._driver = channel
        self._driver.auto_decode = False
        self._closed = self._confirms = self._transactional = False
        self._returned: list[tuple[int, str]] = []
        self._on_return: ReturnCallback | None = None
        self._driver.events["basic_return"].add(
            lambda error, *rest: self._returned.append((error.reply_code, error.reply_text))
        )

    @property
    def is_open(self) -> bool:
        return not self._closed and self.transport.is_connected and bool(self._driver.is_open)

    def _call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        if not self.is_open:
            raise ChannelError("the channel is closed", 504)
        with self.transport.lock, map_errors(ERRORS):
            try:
                return getattr(self._driver, method)(*args, **kwargs)
            except driver.ChannelError:
                self.close()  # the driver has opened it anew by itself
                raise

    def _sync(self) -> None:
        """Let the server's verdict on what was sent before come in."""
        self._call("exchange_declare", "amq.direct", "direct", passive=True)

    # -- topology --------------------------------------------------------------------------

    def exchange_declare(self, exchange: str, type: str = "direct", **options: Any) -> None:
        if type not in CAPABILITIES.exchange_types:
            raise UnsupportedError("exchange_types", CAPABILITIES.name, type)
        options.setdefault("auto_delete", False)
        if options.pop("internal", False):
            self._declare_internal(exchange, type, **options)
        else:
            self._call("exchange_declare", exchange, type, **options)

    def _declare_internal(self, exchange: str, type_: str, **options: Any) -> None:
        """The driver's method always says `internal=False`."""
        flags = [options.get(key, False) for key in ("passive", "durable", "auto_delete")]
        values = (0, exchange, type_, *flags, True, False, options.get("arguments"))
        declare, declared = amqp.spec.Exchange.Declare, amqp.spec.Exchange.DeclareOk
        self._call("send_method", declare, "BssbbbbbF", values, wait=declared)

    def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> None:
        self._call("exchange_delete", exchange, if_unused=if_unused)

    def exchange_bind(
        self, destination: str, source: str, routing_key: str = "", arguments: Any = None
    ) -> None:
        self._call("exchange_bind", destination, source, routing_key, arguments=arguments)

    def exchange_unbind(
        self, destination: str, source: str, routing_key: str = "", arguments: Any = None
    ) -> None:
        self._call("exchange_unbind", destination, source, routing_key, arguments=arguments)

    def queue_declare(self, queue: str = "", **options: Any) -> QueueDeclareOk:
        options.setdefault("auto_delete", False)
        return QueueDeclareOk(*self._call("queue_declare", queue, **options))

    def queue_bind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: Any = None
    ) -> None:
        self._call("queue_bind", queue, exchange, routing_key, arguments=arguments)

    def queue_unbind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: Any = None
    ) -> None:
        self._call("queue_unbind", queue, exchange, routing_key, arguments=arguments)

    def queue_purge(self, queue: str) -> int:
        return int(self._call("queue_purge", queue))

    def queue_delete(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        return int(self._call("queue_delete", queue, if_unused=if_unused, if_empty=if_empty))

    # -- publishing ------------------------------------------------------------------------

    def basic_publish(
        self,
        envelope: Envelope,
        *,
        mandatory: bool = False,
        delay: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        if delay:
            CAPABILITIES.require("delay")
        if not (self._confirms or self._transactional):
            self._call("confirm_select")
            self._confirms = True
        with self.transport.lock:
            self._returned.clear()
            message = amqp.Message(
                envelope.body, application_headers=dict(envelope.headers), **envelope.properties
            )
            self._call(
                "_basic_publish",
                message,
                envelope.exchange,
                envelope.routing_key,
                mandatory=mandatory,
            )
            if self._transactional:
                return
            verdicts: list[Any] = []
            answers = [amqp.spec.Basic.Ack, amqp.spec.Basic.Nack]
            note = partial(_note, verdicts)
            self._call("wait", answers, callback=note, timeout=timeout or TIMEOUT)
        if amqp.spec.Basic.Nack in verdicts:
            raise PublishRejectedError("a negative confirm")
        self._report_returned(envelope)

    def _report_returned(self, envelope: Envelope) -> None:
        for code, text in self._returned:
            if self._on_return is None:
                raise UnroutableError(envelope, code, text)
            self._on_return(envelope, code, text)

    def basic_publish_batch(
        self, publications: Sequence[Publication], *, timeout: float | None = None
    ) -> None:
        failed: dict[int, Exception] = {}
        for position, (envelope, mandatory, delay) in enumerate(publications):
            try:
                self.basic_publish(envelope, mandatory=mandatory, delay=delay, timeout=timeout)
            except (PublishRejectedError, UnroutableError) as exc:
                failed[position] = exc
        if failed:
            raise BatchPublishError(failed, len(publications))

    def set_return_callback(self, callback: ReturnCallback | None) -> None:
        self._on_return = callback

    # -- consuming -------------------------------------------------------------------------

    def basic_get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        found = self._call("basic_get", queue, no_ack=no_ack)
        return found and self._received(found, no_ack)

    def basic_consume(
        self,
        queue: str,
        callback: Callable[[Message], object],
        *,
        consumer_tag: str = "",
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
        on_cancel: Callable[[str], object] | None = None,
    ) -> str:
        events = self.transport.events

        def deliver(found: Any) -> None:
            message = self._received(found, no_ack)
            events.append((self, message.consumer_tag, partial(callback, message)))

        def cancelled(tag: str) -> None:
            if on_cancel is not None:
                events.append((self, tag, partial(on_cancel, tag)))

        return str(
            self._call(
                "basic_consume",
                queue,
                consumer_tag,
                no_ack=no_ack,
                exclusive=exclusive,
                callback=deliver,
                arguments=arguments,
                on_cancel=cancelled,
            )
        )

    def basic_cancel(self, consumer_tag: str) -> None:
        self._call("basic_cancel", consumer_tag)

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> None:
        self._call("basic_qos", prefetch_size, prefetch_count, apply_global)

    def basic_recover(self, requeue: bool = True) -> None:
        self._call("basic_recover", requeue=requeue)

    def flow(self, active: bool) -> None:
        CAPABILITIES.require("flow")

    def _received(self, found: Any, no_ack: bool) -> Message:
        info, headers = found.delivery_info, _aware(found.properties.get("application_headers", {}))
        properties = {key: found.properties[key] for key in PROPERTIES if key in found.properties}
        body = found.body.encode() if isinstance(found.body, str) else bytes(found.body)
        return Message(
            self,
            Envelope(body, properties, headers, info["exchange"], info["routing_key"]),  # type: ignore[arg-type]
            info["delivery_tag"],
            redelivered=bool(info["redelivered"]),
            consumer_tag=info.get("consumer_tag", ""),
            is_settled=no_ack,
        )

    # -- settling --------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        self._call("basic_ack", delivery_tag, multiple)
        self._sync()

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        self._call("send_method", amqp.spec.Basic.Nack, "Lbb", (delivery_tag, multiple, requeue))
        self._sync()

    def basic_reject(self, delivery_tag: int, requeue: bool = True) -> None:
        self._call("basic_reject", delivery_tag, requeue)
        self._sync()

    # -- transactions and the channel itself -----------------------------------------------

    def confirm_select(self) -> None:
        if not self._confirms:
            self._call("confirm_select")
            self._confirms = True

    def tx_select(self) -> None:
        self._call("tx_select")
        self._transactional = True

    def tx_commit(self) -> None:
        self._call("tx_commit")

    def tx_rollback(self) -> None:
        self._call("tx_rollback")

    def close(self) -> None:
        self._closed = True
        events = self.transport.events
        kept = [event for event in events if event[0] is not self]
        events.clear()
        events.extend(kept)
        with self.transport.lock:
            try:
                self._driver.close()
            except (driver.AMQPError, OSError):
                pass


def _note(verdicts: list[Any], method: Any, *rest: Any) -> None:
    verdicts.append(method)


def _aware(value: Any) -> Any:
    """Give the driver's naive times the zone that AMQP's have: UTC."""
    if isinstance(value, dict):
        return {key: _aware(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_aware(item) for item in value]
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
