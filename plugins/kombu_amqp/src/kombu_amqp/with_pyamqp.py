"""The transport on py-amqp: its connection, channels and methods, over the shared wire."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import amqp
from amqp import exceptions as driver_errors
from amqp import spec

from kombu_amqp.driver import Link
from kombu_amqp.frames import METHOD, frame
from kombu_amqp.parameters import Endpoint
from kombu_amqp.transport import AmqpTransport
from kombu_amqp.wire import Wire
from kombu_core.exceptions import (
    ChannelLimitExceededError,
    ConnectionLostError,
    EncodeError,
    UnsupportedError,
)

_SIGNATURE: Final = struct.Struct(">HH")


class _Stream:
    """The wire, in the shape of py-amqp's own transport."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.connected = False

    def connect(self) -> None:
        self.connected = True
        self.write(b"AMQP\x00\x00\x09\x01")

    def write(self, data: bytes | memoryview) -> None:
        self._wire.write(bytes(data))

    def close(self) -> None:
        self.connected = False


def _frame_writer(connection: Any, stream: _Stream) -> Callable[..., None]:
    """py-amqp's has one buffer and a lock for all threads; the wire's lock is enough here."""

    def write(kind: int, channel: int, signature: Any, args: Any, content: Any) -> None:
        payload = _SIGNATURE.pack(*signature) + (args or b"") if kind == METHOD else b""
        stream.write(frame(kind, channel, payload))

    return write


class _Channel(amqp.Channel):  # type: ignore[misc]  # py-amqp has no types
    """py-amqp's channel, without its habit to open itself again after an error."""

    def dispatch_method(self, method_sig: Any, payload: bytes, content: Any) -> Any:
        if method_sig == spec.Channel.Close:
            self.send_method(spec.Channel.CloseOk)
            self.collect()
            return None
        if method_sig == spec.Basic.Cancel:
            return None  # it would raise ConsumerCancelled into whoever reads
        return super().dispatch_method(method_sig, payload, content)


class _Connection(amqp.Connection):  # type: ignore[misc]
    """py-amqp's connection, reading in turn with everybody else."""

    Channel = _Channel

    def __init__(self, link: PyAmqpLink, **settings: Any) -> None:
        self._link = link
        self._rounds = 0
        super().__init__(frame_writer=_frame_writer, **settings)

    def Transport(self, *args: Any, **kwargs: Any) -> _Stream:  # noqa: N802  (py-amqp's name)
        return _Stream(self._link.wire)

    def drain_events(self, timeout: float | None = None) -> None:
        before = self._rounds
        self._link.wait(lambda: self._rounds != before)

    def _on_tune(
        self, channel_max: int, frame_max: int, server_heartbeat: int, argsig: str = "BlB"
    ) -> None:
        # py-amqp itself takes the broker's limits, however low its own are.
        channels = _lower(channel_max, self.channel_max)
        super()._on_tune(channels, _lower(frame_max, self.frame_max), server_heartbeat, argsig)

    def take(self, kind: int, channel: int, payload: bytes) -> None:
        """Take in one frame."""
        self._rounds += 1
        if channel in (self.channels or ()):
            self.on_inbound_frame((kind, channel, payload))


def _lower(theirs: int, ours: int) -> int:
    """Return the lower of two limits, of which 0 is none."""
    return min(theirs or ours, ours or theirs)


class PyAmqpLink(Link):
    """See `Link`."""

    errors: ClassVar[Mapping[type[BaseException], type[Any]]] = {
        driver_errors.ResourceError: ChannelLimitExceededError,
        driver_errors.FrameSyntaxError: EncodeError,
        driver_errors.AMQPNotImplementedError: UnsupportedError,
        driver_errors.AMQPError: ConnectionLostError,
        struct.error: EncodeError,
    }

    def __init__(self, wire: Wire, endpoint: Endpoint) -> None:
        super().__init__(wire, endpoint)
        options = endpoint.options
        self._connection = _Connection(
            self,
            host=f"{endpoint.host}:{endpoint.port}",
            userid=endpoint.userid,
            password=endpoint.password.reveal(),
            login_method=options.login_method,
            virtual_host=endpoint.virtual_host,
            client_properties=dict(endpoint.client_properties),
            heartbeat=endpoint.heartbeat,
            frame_max=options.frame_max,
            channel_max=options.channel_max,
        )

    @property
    def heartbeat(self) -> float:
        return float(self._connection.heartbeat or 0)

    @property
    def frame_max(self) -> int:
        return int(self._connection.frame_max)

    def open(self) -> None:
        self._connection.connect()

    def open_channel(self) -> _PyAmqpChannel:
        return _PyAmqpChannel(self.wire, self._connection.channel())

    def feed(self, kind: int, channel: int, payload: bytes) -> None:
        self._connection.take(kind, channel, payload)

    def close(self) -> None:
        self._connection.close()


class _PyAmqpChannel:
    """See `DriverChannel`."""

    def __init__(self, wire: Wire, channel: Any) -> None:
        self._wire = wire
        self._channel = channel
        self.number: int = channel.channel_id

    def ask(self, payload: bytes, answer: tuple[int, int]) -> Sequence[Any]:
        self._wire.write(frame(METHOD, self.number, payload))
        return self._channel.wait(answer, returns_tuple=True) or ()

    def exchange_delete(self, exchange: str, if_unused: bool) -> None:
        self._channel.exchange_delete(exchange, if_unused=if_unused)

    def queue_purge(self, queue: str) -> int:
        return int(self._channel.queue_purge(queue))

    def queue_delete(self, queue: str, if_unused: bool, if_empty: bool) -> int:
        return int(self._channel.queue_delete(queue, if_unused, if_empty))

    def basic_qos(self, prefetch_size: int, prefetch_count: int, apply_global: bool) -> None:
        self._channel.basic_qos(prefetch_size, prefetch_count, apply_global)

    def basic_recover(self) -> None:
        # py-amqp's own method does not wait for the answer.
        self._channel.send_method(spec.Basic.Recover, "b", (True,), wait=spec.Basic.RecoverOk)

    def confirm_select(self) -> None:
        self._channel.confirm_select()

    def tx_select(self) -> None:
        self._channel.tx_select()

    def tx_commit(self) -> None:
        self._channel.tx_commit()

    def tx_rollback(self) -> None:
        self._channel.tx_rollback()

    def close(self) -> None:
        self._channel.close()


class PyAmqpTransport(AmqpTransport):
    """RabbitMQ through py-amqp."""

    driver_name: ClassVar[str] = "py-amqp"
    link_class: ClassVar[type[Link]] = PyAmqpLink
