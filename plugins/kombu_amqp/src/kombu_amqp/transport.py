"""One connection to RabbitMQ behind the Transport contract, the same over both drivers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final

from kombu_amqp import frames
from kombu_amqp.channel import AmqpChannel
from kombu_amqp.delay import Delays
from kombu_amqp.driver import Failure, Link
from kombu_amqp.errors import channel_error, lost_error, refused_error
from kombu_amqp.events import Events
from kombu_amqp.options import AmqpOptions
from kombu_amqp.parameters import endpoint_of
from kombu_amqp.wire import Wire
from kombu_core.capabilities import Capabilities
from kombu_core.exceptions import (
    BrokerError,
    ConnectError,
    ConnectionLostError,
    KombuError,
    NothingCameError,
)
from kombu_core.forking import tell_of_forks
from kombu_core.transport import TransportParameters
from kombu_core.virtual.keeper import Keeper

if TYPE_CHECKING:
    from kombu_core.connection import Connection

logger = logging.getLogger(__name__)

#: Parts of the heartbeat's interval: how often the keeper looks, how long nothing may be sent, and
#: how long nothing may be heard. The first and the last together stay below two intervals.
_LOOK_SHARE: Final = 0.25
_SEND_SHARE: Final = 0.5
_SILENCE_SHARE: Final = 1.6
#: Events that are fetched ahead while nobody drains; beyond it, TCP holds the broker back.
_EVENTS_AHEAD: Final = 1000
#: Seconds to look after what has no time of its own.
_IDLE_LOOK: Final = 60.0


class AmqpTransport:
    """See `kombu_core.transport.Transport` for the contract. A subclass names the driver."""

    driver_type: ClassVar[str] = "amqp"
    driver_name: ClassVar[str]
    link_class: ClassVar[type[Link]]

    capabilities: Final = Capabilities(
        name="amqp",
        exclusive_consumers=True,
        transactions=True,
        flow=False,
        priorities=True,
        message_ttl=True,
        queue_expires=True,
        dead_letters=True,
        max_length=True,
        max_length_bytes=True,
        single_active_consumer=True,
        consumer_priorities=True,
        delivery_limit=True,
        delay=True,
        direct_reply=True,
    )

    def __init__(self, parameters: TransportParameters) -> None:
        self.client: Connection | None = None
        self._endpoint = endpoint_of(parameters)
        self._reset()
        tell_of_forks(self)

    def _reset(self) -> None:
        """Make the state of a transport that was never connected."""
        self._wire: Wire | None = None
        self._link: Link | None = None
        self._keeper: Keeper | None = None
        self._lock = threading.RLock()
        self._channels: dict[int, AmqpChannel] = {}
        self.events = Events()
        self._forked_channels: list[AmqpChannel] | None = None
        self._is_opening = False
        self.delays = Delays(self)

    @property
    def options(self) -> AmqpOptions:
        """The options, from URL and `transport_options`."""
        return self._endpoint.options

    # -- the connection --------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        wire = self._wire
        if wire is None:
            return self._forked_channels is not None
        return wire.error is None

    @property
    def wire(self) -> Wire:
        """The wire.

        Raises:
            ConnectionLostError: The transport was closed, or never connected.
        """
        wire = self._wire
        if wire is None:
            if self._forked_channels is None:
                raise ConnectionLostError("The connection is closed")
            return self._reopen_after_fork()
        return wire

    @property
    def link(self) -> Link:
        """The driver's connection."""
        if self._link is None:
            raise ConnectionLostError("The connection is closed")
        return self._link

    @property
    def frame_max(self) -> int:
        """Bytes of a frame at most."""
        return self.link.frame_max

    def connect(self) -> None:
        with self._lock:
            if self._wire is not None and self.is_connected:
                return
            self._forked_channels = None
            self._open()

    def _open(self) -> None:
        endpoint = self._endpoint
        deadline = monotonic() + endpoint.connect_timeout
        wire = Wire(self._take, self._lost)
        wire.dial(
            endpoint.host,
            endpoint.port,
            endpoint.tls,
            endpoint.server_name,
            endpoint.connect_timeout,
        )
        link = self.link_class(wire, endpoint)
        self._wire, self._link, self._is_opening = wire, link, True
        try:
            with wire.lock, link.calling(max(0.0, deadline - monotonic())):
                link.open()
        except BaseException as exc:
            self._wire = self._link = None
            with wire.lock:
                wire.lose(ConnectionLostError("The connection was not made"))
            if isinstance(exc, ConnectError) or not isinstance(exc, KombuError):
                raise
            raise ConnectError(f"Cannot connect to {endpoint.host}:{endpoint.port}: {exc}") from exc
        finally:
            self._is_opening = False
        if link.heartbeat:
            self._start_keeper()

    def channel(self) -> AmqpChannel:
        wire = self.wire
        with wire.lock:
            wire.raise_lost()
            with self.calling():
                channel = AmqpChannel(self, self.link.open_channel())
            self._channels[channel.number] = channel
            return channel

    def close(self) -> None:
        wire, link = self._wire, self._link
        self._forked_channels = None
        if wire is None or link is None:
            return
        try:
            with wire.lock:
                # A broker that has blocked the connection does not read from it.
                if wire.error is None and wire.blocked is None:
                    for channel in list(self._channels.values()):
                        channel.flush_acks()
                    with link.calling(self.options.socket_timeout):
                        link.close()
        except KombuError as error:
            logger.debug("Closing without a broker: %s", error)
        finally:
            with wire.lock:
                wire.lose(ConnectionLostError("The connection is closed"))
            self._wire = self._link = None
            keeper, self._keeper = self._keeper, None
            if keeper is not None:
                keeper.stop()

    def calling(
        self, failure: Failure | None = None, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """Bound what the driver waits for; see `Link.calling`."""
        seconds = self.options.socket_timeout if timeout is None else timeout
        return self.link.calling(seconds, failure)

    def await_answer(self, done: Callable[[], object]) -> None:
        """Wait inside of `calling`."""
        self.link.wait(done)

    # -- frames; the wire's lock is held ---------------------------------------------------

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        """Take in a frame."""
        if number:
            channel = self._channels.get(number)
            if channel is not None:
                if channel.take(kind, payload):
                    return
            elif kind != frames.METHOD or payload[:4] in frames.MESSAGE_METHODS:
                return  # of a channel that was just closed
        elif kind == frames.HEARTBEAT or (
            kind == frames.METHOD and self._take_connection_method(payload)
        ):
            return
        self.link.feed(kind, number, payload)
        if kind == frames.METHOD and payload[:4] == frames.CHANNEL_CLOSE:
            # The driver has agreed. Until RabbitMQ hears it, it keeps what the channel had.
            self.wire.flush()

    def _take_connection_method(self, payload: bytes) -> bool:
        method, wire = payload[:4], self.wire
        if method == frames.CONNECTION_BLOCKED:
            wire.blocked = frames.read_short(payload, 4)[0]
        elif method == frames.CONNECTION_UNBLOCKED:
            wire.blocked = None
        elif method == frames.CONNECTION_CLOSE:
            code, text = frames.read_close(payload)
            # RabbitMQ refuses some methods so; who asked gets what asking again would not mend.
            for channel in list(self._channels.values()):
                if channel.is_asking(frames.read_culprit(payload)):
                    channel.fail(channel_error(code, text))
            wire.write(frames.connection_close_ok())
            wire.flush()
            wire.lose((refused_error if self._is_opening else lost_error)(code, text))
        else:
            return False
        return True

    def _lost(self, error: BrokerError) -> None:
        """The wire is gone."""
        for channel in list(self._channels.values()):
            channel.fail(error)
        self._channels.clear()
        self.events.clear()

    def forget_channel(self, channel: AmqpChannel) -> None:
        """A channel is gone."""
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]

    # -- events and upkeep -----------------------------------------------------------------

    def drain_events(self, timeout: float | None = None) -> None:
        deadline = None if timeout is None else monotonic() + timeout
        wire = self.wire
        with wire.lock:
            while (event := self.events.take()) is None:
                wire.raise_lost()
                for channel in self._channels.values():
                    channel.flush_acks()
                if not wire.wait(lambda: self.events, deadline):
                    raise NothingCameError("Nothing came within the timeout")
        event.callback(event.argument)

    def _start_keeper(self) -> Keeper:
        if self._keeper is None:
            self._keeper = Keeper(self, name=f"kombu-keeper-{self._endpoint.host}")
        return self._keeper

    def hurry(self, due: float) -> None:
        """Let the keeper come at `due` (monotonic seconds), if that is earlier than planned."""
        (self._keeper or self._start_keeper()).hurry(due)

    def upkeep(self, now: float) -> float:
        """Called by the keeper: send acks and heartbeats, listen for the broker's."""
        wire, link = self._wire, self._link
        if wire is None or link is None:
            return now + _IDLE_LOOK
        with wire.lock:
            if wire.error is not None:
                return now + _IDLE_LOOK
            for channel in self._channels.values():
                channel.flush_acks()
            heartbeat = link.heartbeat
            if heartbeat:
                self._heartbeat(wire, heartbeat, now)
            wire.flush()
        return now + (heartbeat * _LOOK_SHARE if heartbeat else _IDLE_LOOK)

    def _heartbeat(self, wire: Wire, interval: float, now: float) -> None:
        if now - wire.last_sent >= interval * _SEND_SHARE and not wire.has_output:
            wire.write(frames.HEARTBEAT_FRAME)
        if len(self.events) < _EVENTS_AHEAD:
            wire.poke()
        elif wire.is_readable:
            wire.last_received = now
        if now - wire.last_received > interval * _SILENCE_SHARE:
            wire.lose(
                ConnectionLostError(f"The broker was silent for {now - wire.last_received:.1f} s")
            )

    def heartbeat_check(self) -> None:
        wire = self.wire
        self.upkeep(monotonic())
        with wire.lock:
            wire.raise_lost()

    # -- fork ------------------------------------------------------------------------------

    def forked(self) -> None:
        """In a forked child: leave the parent's connection alone; open an own one when needed.

        Channels stay usable; the parent's deliveries and subscriptions are the parent's.
        """
        wire = self._wire
        if wire is None:
            return
        channels = list(self._channels.values())
        wire.abandon()
        self._reset()
        self._forked_channels = channels

    def _reopen_after_fork(self) -> Wire:
        with self._lock:
            channels = self._forked_channels or []
            self._forked_channels = None
            if self._wire is None:
                self._open()
                wire = self.wire
                with wire.lock, self.calling():
                    for channel in channels:
                        channel.attach(self.link.open_channel())
                        self._channels[channel.number] = channel
        return self.wire
