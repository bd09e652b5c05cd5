"""A transport made from a store: one session, its channels, its keeper, and the drain loop.

A plugin subclasses `VirtualTransport` and says how to open its store; that is all.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from kombu_core.capabilities import Capabilities, StoreCapabilities
from kombu_core.exceptions import (
    ConnectionLostError,
    KombuError,
    NothingCameError,
    OperationalError,
    PreconditionFailedError,
    SessionLostError,
)
from kombu_core.forking import tell_of_forks
from kombu_core.transport import TransportParameters
from kombu_core.virtual.acks import ACK_BATCH, ACK_DELAY, Acks
from kombu_core.virtual.broker import Broker
from kombu_core.virtual.channel import VirtualChannel
from kombu_core.virtual.consuming import WAIT_SLICE, Delivery, Dispatcher
from kombu_core.virtual.declarations import Declarations
from kombu_core.virtual.directory import Directory
from kombu_core.virtual.keeper import Keeper
from kombu_core.virtual.routing import EXCHANGE_TYPES, BindingTable
from kombu_core.virtual.store import Claim, Store
from kombu_core.virtual.topology import expiry_session, mark_of, queue_key, session_prefix

if TYPE_CHECKING:
    from kombu_core.connection import Connection

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds after which another connection has the messages of one that was not heard of.
DEFAULT_LEASE: Final = 30.0
#: Parts of the lease: how long a session lives without being renewed, how often it is renewed, and
#: how often the dead are looked for. The first and the last together stay below the lease.
_SESSION_SHARE: Final = 0.8
_RENEW_SHARE: Final = 0.2
_REAP_SHARE: Final = 0.1
#: Seconds between two looks for messages that expired where nobody consumes.
EXPIRY_INTERVAL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Parts:
    """What works together while a transport is connected."""

    session: str
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
        self._keeper: Keeper | None = None
        self._forked_channels: dict[int, VirtualChannel] | None = None
        self._lock = threading.RLock()
        self._draining = threading.RLock()
        self._acks = Acks(self._hurry_acks)
        self._has_session = False
        #: Queues in which messages may expire that nobody claims.
        self._expiring: set[str] = set()
        #: Queues with `x-expires` that this connection consumes from, and their seconds.
        self._kept: dict[str, float] = {}
        self._keep_at = 0.0
        #: Until when (monotonic seconds) the lease holds for sure, by this machine's clock.
        self._leased_until = 0.0
        self._renew_at = 0.0
        self._reap_at = 0.0
        self._expire_at = 0.0

    def open_store(self) -> Store:
        """Connect to the broker and return the store; a subclass defines it.

        Raises:
            ConnectError: It cannot be reached.
            AuthenticationError: It refused the credentials.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define open_store()")

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
            self._begin_anew()
            store = self.open_store()
            session = f"{os.getpid()}-{secrets.token_hex(8)}"
            capabilities = self.make_capabilities(store.capabilities)
            directory = Directory(store, self._exchange_types, capabilities.name)
            declarations = Declarations(store, directory, session)
            broker = Broker(
                store,
                directory,
                capabilities,
                session,
                begin_session=self.begin_session,
                watch_expiry=self.watch_expiry,
            )
            largest = capabilities.max_message_bytes
            self._parts = Parts(
                session,
                directory,
                declarations,
                broker,
                Dispatcher(broker, declarations),
                float("inf") if largest is None else largest,
            )

    def _begin_anew(self) -> None:
        """Forget the session before, if there was one: its claims and channels ended with it."""
        self._end_given_up()
        if self._has_session:
            self._has_session = False
            self._acks = Acks(self._hurry_acks)
            self._expiring.clear()
            self._kept.clear()

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
            self.flush()
            if self._has_session:
                self._clean(parts, parts.session)
        except KombuError as error:
            logger.debug("Closing without a broker: %s", error)
        finally:
            self._parts = None
            keeper, self._keeper = self._keeper, None
            if keeper is not None:
                keeper.stop()
            parts.broker.store.close()

    def heartbeat_check(self) -> None:
        """Raise SessionLostError if the lease is known to have run out."""
        _ = self.parts
        if self._has_session and monotonic() > self._leased_until:
            self.upkeep(monotonic())

    # -- draining --------------------------------------------------------------------------

    def drain_events(self, timeout: float | None = None) -> None:
        if not self._draining.acquire(False) and not self._draining.acquire(
            timeout=-1 if timeout is None else max(0.0, timeout)
        ):
            raise NothingCameError("Another thread was draining for all of the timeout")
        try:
            dispatcher = (self._parts or self.parts).dispatcher
            delivery = dispatcher.take()
            if delivery is None:
                delivery = self.claiming(lambda: self._await_delivery(dispatcher, timeout))
            if delivery is not None:
                delivery[0].channel.deliver(delivery)
        finally:
            self._draining.release()

    def _await_delivery(self, dispatcher: Dispatcher, timeout: float | None) -> Delivery | None:
        """Wait for the next delivery; None after a cancellation that was handled instead."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            _ = self.parts  # raises if another thread closed the connection meanwhile
            self.flush()
            self._acks.raise_lost()
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

    # -- settling --------------------------------------------------------------------------

    def acknowledge(self, claims: Sequence[Claim]) -> None:
        """Acknowledge soon, together with others; at once if the lease is in doubt.

        Raises:
            LeaseLostError: A claim is known to be somebody else's.
        """
        if self._acks.add(claims) >= ACK_BATCH or monotonic() > self._leased_until:
            self.claiming(self.flush)
            self._acks.raise_lost()

    def acknowledge_soon(self, claim: Claim) -> None:
        """Acknowledge together with others, without any I/O and without an error."""
        self._acks.add((claim,))

    def _hurry_acks(self) -> None:
        if self._keeper is not None:
            self._keeper.hurry(monotonic() + ACK_DELAY)

    def flush(self) -> None:
        """Send the acks that wait, and wait for those that another thread is sending.

        Claims that turn out lost are reported by the next drain.
        """
        self._acks.flush(lambda claims: self.parts.broker.acknowledge(claims))

    # -- the session -----------------------------------------------------------------------

    def begin_session(self) -> None:
        """Make sure that there is a session with a keeper, because something will be owned."""
        if self._has_session:
            return
        with self._lock:
            if self._has_session:
                return
            parts = self.parts
            now = monotonic()
            parts.broker.store.begin(parts.session, self.lease * _SESSION_SHARE)
            self._leased(now)
            self._has_session = True
            self._keeper = Keeper(self, name=f"kombu-keeper-{parts.session}")

    def watch_expiry(self, queue: str) -> None:
        """See to it that messages which expire in `queue` leave it, though nobody consumes."""
        if queue in self._expiring:
            return
        self._expiring.add(queue)
        self.begin_session()
        if self._keeper is not None:
            self._keeper.hurry(monotonic() + EXPIRY_INTERVAL)

    def use_queue(self, queue: str, expires: float) -> None:
        """A queue with `x-expires` was used: it lives for `expires` seconds from now, unused.

        It has a session of its own, so that whoever reaps the dead finds it when its time is over.
        """
        self.begin_session()
        self.parts.broker.store.begin(expiry_session(queue), expires)
        self._reap_at = min(self._reap_at, monotonic() + expires)
        if self._keeper is not None:
            self._keeper.hurry(self._reap_at)

    def keep_queue(self, queue: str, expires: float) -> None:
        """A queue with `x-expires` is consumed from: it lives as long as that lasts."""
        self._kept[queue] = expires
        self.use_queue(queue, expires)
        self._keep_at = 0.0
        if self._keeper is not None:
            self._keeper.hurry(monotonic())

    def _keep_queues(self, parts: Parts, now: float) -> None:
        """Renew the time of the queues that are consumed from; it begins anew with the last one."""
        for queue, expires in list(self._kept.items()):
            if not parts.dispatcher.consumes_from(queue):
                del self._kept[queue]
            self.use_queue(queue, expires)
        self._keep_at = now + min(list(self._kept.values()), default=float("inf")) / 3

    def upkeep(self, now: float) -> float:
        """Called by the keeper: renew, flush, reap, expire; returns when to come again."""
        parts = self._parts
        if parts is None:
            return now + 1.0
        if now >= self._renew_at:  # First: nothing else that fails may cost the lease.
            if not parts.broker.store.renew(parts.session, self.lease * _SESSION_SHARE):
                self._session_lost()
            self._leased(now)
        self.flush()
        if self._kept and now >= self._keep_at:
            self._keep_queues(parts, now)
        if self._expiring and now >= self._reap_at:
            self._forget_deleted(parts)
        self.reap_when_due(now)
        due = min(self._renew_at, self._reap_at)
        if self._kept:
            due = min(due, self._keep_at)
        if self._expiring:
            if now >= self._expire_at:
                has_more = self.claiming(lambda: parts.broker.expire(tuple(self._expiring)))
                self._expire_at = now + (0.0 if has_more else EXPIRY_INTERVAL)
            due = min(due, self._expire_at)
        return due

    def _forget_deleted(self, parts: Parts) -> None:
        """Nothing expires any more in queues that are gone."""
        watched = tuple(self._expiring)
        documents = parts.broker.store.read([queue_key(queue) for queue in watched])
        there = zip(watched, documents, strict=True)
        self._expiring.difference_update(queue for queue, found in there if not found.version)

    def _leased(self, now: float) -> None:
        self._leased_until = now + self.lease * _SESSION_SHARE
        self._renew_at = now + self.lease * _RENEW_SHARE

    def claiming(self, claim: Callable[[], T]) -> T:
        """Call what claims or gives back; give the session up if the connection broke meanwhile.

        The store may have claimed messages that we never heard of, or not have got back what we
        forgot, and they would be ours as long as the session lives.
        """
        try:
            return claim()
        except OperationalError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self._given_up, self._parts = self._parts or self._given_up, None
        self._leased_until = 0.0

    def _end_given_up(self) -> None:
        """End a session that was given up, if the broker can be reached; or its lease will."""
        parts, self._given_up = self._given_up, None
        keeper, self._keeper = (self._keeper, None) if parts is not None else (None, self._keeper)
        if keeper is not None:
            keeper.stop()
        if parts is None:
            return
        try:
            self._clean(parts, parts.session)
        except KombuError as error:
            logger.debug("A session is left to its lease: %s", error)
        parts.broker.store.close()

    def _session_lost(self) -> None:
        """Others have our claims by now: nothing of this connection is worth keeping."""
        self._give_up()
        raise SessionLostError("The lease of this connection ran out")

    def reap_when_due(self, now: float) -> None:
        """`reap`, if that was not done for a while."""
        if now >= self._reap_at:
            self._reap_at = now + self.lease * _REAP_SHARE
            self.reap()

    def reap(self) -> None:
        """Give back the messages of dead sessions, and delete what they owned."""
        parts = self.parts
        for session in parts.broker.store.reap():
            self._clean(parts, session)

    @staticmethod
    def _clean(parts: Parts, session: str) -> None:
        """Delete the exclusive queues and consumers of a session, then the session."""
        store, declarations = parts.broker.store, parts.declarations
        prefix = session_prefix(session)
        for mark in store.scan(prefix):
            kind, queue = mark_of(mark.removeprefix(prefix))
            if kind == "queue":
                try:
                    declarations.delete_queue(queue, if_unused=session == expiry_session(queue))
                except PreconditionFailedError:
                    continue  # Somebody began to consume, and renews its time.
                store.write({mark: None}, ())
            else:
                declarations.remove_consumers(queue, session)
        store.end(session)

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
