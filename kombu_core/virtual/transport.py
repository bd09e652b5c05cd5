"""A transport made from a store: one session, its channels, its keeper, and the drain loop.

A plugin subclasses `VirtualTransport` and says how to open its store; that is all.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final

from kombu_core.capabilities import Capabilities, StoreCapabilities
from kombu_core.exceptions import (
    ConnectionLostError,
    KombuError,
    NothingCameError,
)
from kombu_core.forking import tell_of_forks
from kombu_core.transport import TransportParameters
from kombu_core.virtual.broker import Broker
from kombu_core.virtual.channel import VirtualChannel
from kombu_core.virtual.consuming import WAIT_SLICE, Delivery, Dispatcher
from kombu_core.virtual.declarations import Declarations
from kombu_core.virtual.directory import Directory
from kombu_core.virtual.routing import EXCHANGE_TYPES, BindingTable
from kombu_core.virtual.session import Session
from kombu_core.virtual.store import Store

if TYPE_CHECKING:
    from kombu_core.connection import Connection

logger = logging.getLogger(__name__)

#: Seconds after which another connection has the messages of one that was not heard of.
DEFAULT_LEASE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What works together while a transport is connected."""

    session: Session
    directory: Directory
    declarations: Declarations
    broker: Broker
    dispatcher: Dispatcher
    largest_body: float


class VirtualTransport:
    """See `kombu_core.transport.Transport` for the contract; `lease` is in seconds."""

    driver_type: ClassVar[str] = "virtual"
    driver_name: ClassVar[str] = "virtual"

    def __init__(self, parameters: TransportParameters, *, lease: float = DEFAULT_LEASE) -> None:
        self.parameters = parameters
        self.client: Connection | None = None
        self.lease = lease
        self._exchange_types: Mapping[str, type[BindingTable]] = EXCHANGE_TYPES
        if parameters.plugins is not None:
            self._exchange_types = {**EXCHANGE_TYPES, **parameters.plugins.exchange_types()}
        self._inherited: object = None
        self._reset()
        tell_of_forks(self)

    def _reset(self) -> None:
        """Make the state of a transport that was never connected."""
        self._parts: Parts | None = None
        #: Parts of a session that was given up, until it is ended.
        self._given_up: Parts | None = None
        self._channels: dict[int, VirtualChannel] = {}
        self._last_channel_id = 0
        self._forked_channels: dict[int, VirtualChannel] | None = None
        self._lock = threading.RLock()
        self._draining = threading.RLock()

    def open_store(self) -> Store:
        """Connect to the broker and return the store; a subclass defines it.

        Raises:
            ConnectError: It cannot be reached.
            AuthenticationError: It refused the credentials.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define open_store()")

    def make_session(self, store: Store, id: str) -> Session:
        """Return the session of a new connection; a subclass may have a kind of its own."""
        return Session(store, id, lease=self.lease, give_up=self.give_up)

    def make_capabilities(self, store: StoreCapabilities) -> Capabilities:
        """Derive what the transport can do from what its store can."""
        return Capabilities(
            name=store.name,
            exchange_types=frozenset(self._exchange_types),
            shared=store.shared,
            persistent=store.persistent,
            atomic_commit=store.atomic_commit,
            max_message_bytes=store.max_message_bytes,
            max_message_hint=store.max_message_hint,
            exclusive_consumers=True,
            transactions=True,
            priorities=store.priorities,
            message_ttl=store.message_ttl,
            dead_letters=True,
            max_length=store.max_length,
            max_length_bytes=store.max_length and store.max_length_bytes,
            single_active_consumer=True,
            consumer_priorities=True,
            queue_expires=True,
            delivery_limit=True,
            delay=store.delay,
        )

    # -- the connection --------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; connects if it must, because the broker may decide."""
        if self._parts is None:
            self.connect()
        return self.parts.broker.capabilities

    @property
    def is_connected(self) -> bool:
        return self._parts is not None or self._forked_channels is not None

    @property
    def parts(self) -> Parts:
        """The working parts.

        Raises:
            ConnectionLostError: The transport is not connected (any more).
        """
        parts = self._parts
        if parts is None:
            if self._forked_channels is None:
                raise ConnectionLostError("The connection is closed")
            return self._reopen_after_fork()
        return parts

    def connect(self) -> None:
        with self._lock:
            if self._parts is not None:
                return
            self._end_given_up()
            store = self.open_store()
            id_ = f"{os.getpid()}-{secrets.token_hex(8)}"
            session = self.make_session(store, id_)
            capabilities = self.make_capabilities(store.capabilities)
            directory = Directory(store, self._exchange_types, capabilities.name)
            declarations = Declarations(store, directory, id_)
            broker = Broker(
                store,
                directory,
                capabilities,
                id_,
                begin_session=session.begin,
                watch_expiry=session.watch_expiry,
            )
            dispatcher = Dispatcher(broker, declarations)
            session.serve(broker, declarations, dispatcher)
            largest = capabilities.max_message_bytes
            self._parts = Parts(
                session,
                directory,
                declarations,
                broker,
                dispatcher,
                float("inf") if largest is None else largest,
            )

    def channel(self) -> VirtualChannel:
        with self._lock:
            _ = self.parts
            self._last_channel_id += 1
            channel = VirtualChannel(self, self._last_channel_id)
            self._channels[channel.channel_id] = channel
            return channel

    def forget_channel(self, channel: VirtualChannel) -> None:
        """A channel was closed."""
        self._channels.pop(channel.channel_id, None)

    def close(self) -> None:
        self._end_given_up()
        parts = self._parts
        if parts is None:
            self._forked_channels = None
            return
        try:
            for channel in list(self._channels.values()):
                channel.close()
            parts.session.flush()
            parts.session.leave()
            parts.session.end()
        except KombuError as error:
            logger.debug("Closing without a broker: %s", error)
        finally:
            self._parts = None
            parts.session.leave()
            parts.session.stop()
            parts.broker.store.close()

    def heartbeat_check(self) -> None:
        """Raise SessionLostError if the lease is known to have run out."""
        self.parts.session.check()

    # -- draining --------------------------------------------------------------------------

    def drain_events(self, timeout: float | None = None) -> None:
        if not self._draining.acquire(False) and not self._draining.acquire(
            timeout=-1 if timeout is None else max(0.0, timeout)
        ):
            raise NothingCameError("Another thread was draining for all of the timeout")
        try:
            parts = self._parts or self.parts
            delivery = parts.dispatcher.take()
            if delivery is None:
                delivery = parts.session.claiming(lambda: self._await_delivery(parts, timeout))
            if delivery is not None:
                delivery[0].channel.deliver(delivery)
        finally:
            self._draining.release()

    def _await_delivery(self, parts: Parts, timeout: float | None) -> Delivery | None:
        """Wait for the next delivery; None after a cancellation that was handled instead."""
        deadline = None if timeout is None else monotonic() + timeout
        dispatcher, session = parts.dispatcher, parts.session
        while True:
            _ = self.parts  # raises if another thread closed the connection meanwhile
            session.flush()
            session.raise_lost()
            gone = dispatcher.look_around()
            if gone is not None:
                gone.channel.consumer_gone(gone)
                return None
            dispatcher.fill()
            delivery = dispatcher.take()
            if delivery is not None:
                return delivery
            left = WAIT_SLICE if deadline is None else deadline - monotonic()
            if left <= 0:
                raise NothingCameError("Nothing came within the timeout")
            dispatcher.wait(left)

    def give_up(self, session: Session) -> None:
        """A session is worth nothing any more: end it when the next one begins."""
        session.leave()
        parts = self._parts
        if parts is not None and parts.session is session:
            self._given_up, self._parts = parts, None

    def _end_given_up(self) -> None:
        """End a session that was given up, if the broker can be reached; or its lease will."""
        parts, self._given_up = self._given_up, None
        if parts is not None:
            parts.session.stop()
            parts.session.end()
            parts.broker.store.close()

    # -- fork ------------------------------------------------------------------------------

    def forked(self) -> None:
        """In a forked child: leave the parent's connection alone; open an own one when needed.

        Channels stay usable; the parent's deliveries and subscriptions are the parent's.
        """
        # Kept from being collected: their sockets are the parent's.
        self._inherited = (self._parts, self._given_up, self._inherited)
        channels = self._forked_channels if self._parts is None else self._channels
        last = self._last_channel_id
        self._reset()
        self._last_channel_id, self._forked_channels = last, channels

    def _reopen_after_fork(self) -> Parts:
        with self._lock:
            if self._forked_channels is not None:
                self._channels = self._forked_channels
                for channel in self._channels.values():
                    channel.reset()
                self.connect()
                self._forked_channels = None
            return self.parts
