"""The transport on pika: its connection, channels and methods, over the shared wire."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import pika
from pika import exceptions as driver_errors
from pika import spec
from pika.channel import Channel
from pika.connection import Connection, ConnectionParameters
from pika.credentials import ExternalCredentials, PlainCredentials

from kombu_amqp.driver import Link
from kombu_amqp.frames import METHOD, frame
from kombu_amqp.parameters import Endpoint
from kombu_amqp.transport import AmqpTransport
from kombu_amqp.wire import Wire
from kombu_core.exceptions import (
    ChannelError,
    ChannelLimitExceededError,
    ConfigurationError,
    ConnectionLostError,
    EncodeError,
)

#: The largest frame that pika agrees to.
_MOST_FRAME: Final = 131072


class _Connection(Connection):  # type: ignore[misc]  # pika has no types before 1.4
    """pika's connection with the wire below it: what pika calls an adapter."""

    def __init__(self, link: PikaLink, parameters: ConnectionParameters) -> None:
        self._link = link
        #: Whether pika has nothing more to say.
        self.is_over = False
        super().__init__(parameters, internal_connection_workflow=False)

    def begin(self) -> None:
        """Send the protocol's header."""
        self._on_stream_connected()

    def take(self, data: bytes) -> None:
        """Take in one whole frame."""
        self._on_data_available(data)

    @property
    def failure(self) -> Exception | None:
        """Why it is over."""
        error: Exception | None = self._error
        return error

    # Heartbeats and timeouts are the transport's.
    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> object:
        return object()

    def _adapter_remove_timeout(self, timeout_id: object) -> None:
        pass

    def _adapter_add_callback_threadsafe(self, callback: Callable[..., Any]) -> None:
        callback()

    def _adapter_connect_stream(self) -> None:
        pass

    def _adapter_disconnect_stream(self) -> None:
        self.is_over = True

    def _adapter_emit_data(self, data: bytes) -> None:
        self._link.wire.write(data)


class PikaLink(Link):
    """See `Link`."""

    errors: ClassVar[Mapping[type[BaseException], type[Any]]] = {
        driver_errors.NoFreeChannels: ChannelLimitExceededError,
        driver_errors.AMQPChannelError: ChannelError,
        driver_errors.AMQPConnectionError: ConnectionLostError,
        driver_errors.ShortStringTooLong: EncodeError,
        driver_errors.UnsupportedAMQPFieldException: EncodeError,
        driver_errors.AMQPError: ConnectionLostError,
        struct.error: EncodeError,
    }

    def __init__(self, wire: Wire, endpoint: Endpoint) -> None:
        super().__init__(wire, endpoint)
        options = endpoint.options
        self._connection = _Connection(
            self,
            ConnectionParameters(
                host=endpoint.host,
                port=endpoint.port,
                virtual_host=endpoint.virtual_host,
                credentials=_credentials(endpoint),
                channel_max=options.channel_max,
                frame_max=min(options.frame_max, _MOST_FRAME),
                heartbeat=endpoint.heartbeat,
                client_properties=dict(endpoint.client_properties),
            ),
        )

    @property
    def heartbeat(self) -> float:
        agreed = self._connection.params.heartbeat
        return float(agreed) if isinstance(agreed, int) else 0.0

    @property
    def frame_max(self) -> int:
        return int(self._connection.params.frame_max)

    def open(self) -> None:
        connection = self._connection
        connection.begin()
        self.wait(lambda: connection.is_open or connection.is_over)
        if connection.is_over and connection.failure is not None:
            raise connection.failure

    def open_channel(self) -> _PikaChannel:
        opened: list[Channel] = []
        channel = self._connection.channel(on_open_callback=opened.append)
        self.wait(lambda: opened)
        return _PikaChannel(self, channel)

    def feed(self, kind: int, channel: int, payload: bytes) -> None:
        self._connection.take(frame(kind, channel, payload))

    def close(self) -> None:
        connection = self._connection
        connection.close()
        self.wait(lambda: connection.is_over)


def _credentials(endpoint: Endpoint) -> PlainCredentials | ExternalCredentials:
    method = endpoint.options.login_method
    if method == "PLAIN":
        return PlainCredentials(endpoint.userid, endpoint.password.reveal())
    if method == "EXTERNAL":
        return ExternalCredentials()
    raise ConfigurationError(f"pika {pika.__version__} has no login_method {method}")


def _ignore(*args: object) -> None:
    """Messages and confirms do not pass through pika."""


class _PikaChannel:
    """See `DriverChannel`."""

    def __init__(self, link: PikaLink, channel: Channel) -> None:
        self._link = link
        self._channel = channel
        self.number: int = channel.channel_number

    def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method of pika's that takes a callback last, and return the broker's answer."""
        answers: list[Any] = []
        method(*args, callback=answers.append)
        self._link.wait(lambda: answers)
        return answers[0].method

    def ask(self, payload: bytes, answer: tuple[int, int]) -> Sequence[Any]:
        kind = spec.methods[answer[0] << 16 | answer[1]]
        answers: list[Any] = []
        self._channel.add_callback(answers.append, [kind])
        self._link.wire.write(frame(METHOD, self.number, payload))
        self._link.wait(lambda: answers)
        return tuple(vars(answers[0].method).values())

    def exchange_delete(self, exchange: str, if_unused: bool) -> None:
        self._call(self._channel.exchange_delete, exchange, if_unused)

    def queue_purge(self, queue: str) -> int:
        return int(self._call(self._channel.queue_purge, queue).message_count)

    def queue_delete(self, queue: str, if_unused: bool, if_empty: bool) -> int:
        return int(self._call(self._channel.queue_delete, queue, if_unused, if_empty).message_count)

    def basic_qos(self, prefetch_size: int, prefetch_count: int, apply_global: bool) -> None:
        self._call(self._channel.basic_qos, prefetch_size, prefetch_count, apply_global)

    def basic_recover(self) -> None:
        self._call(self._channel.basic_recover, True)

    def confirm_select(self) -> None:
        self._call(self._channel.confirm_delivery, _ignore)

    def tx_select(self) -> None:
        self._call(self._channel.tx_select)

    def tx_commit(self) -> None:
        self._call(self._channel.tx_commit)

    def tx_rollback(self) -> None:
        self._call(self._channel.tx_rollback)

    def close(self) -> None:
        self._channel.close()
        self._link.wait(lambda: self._channel.is_closed)


class PikaTransport(AmqpTransport):
    """RabbitMQ through pika."""

    driver_name: ClassVar[str] = "pika"
    link_class: ClassVar[type[Link]] = PikaLink
