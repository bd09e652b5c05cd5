"""The session of one connection: its lease, and all that has to be done for it in the background.

It begins with the first thing that the connection claims or owns, and its keeper with it: acks are
sent in time, what expires leaves its queue, the dead are cleaned after. See `Store` for sessions.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from kombu_core.exceptions import (
    KombuError,
    OperationalError,
    PreconditionFailedError,
    SessionLostError,
)
from kombu_core.virtual.acks import ACK_BATCH, ACK_DELAY, Acks
from kombu_core.virtual.keeper import Keeper
from kombu_core.virtual.store import Claim, Store
from kombu_core.virtual.topology import expiry_session, mark_of, queue_key, session_prefix

if TYPE_CHECKING:
    from kombu_core.virtual.broker import Broker
    from kombu_core.virtual.consuming import Dispatcher
    from kombu_core.virtual.declarations import Declarations

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Parts of the lease: how long a session lives without being renewed, how often it is renewed, and
#: how often the dead are looked for. The first and the last together stay below the lease.
_SESSION_SHARE: Final = 0.8
_RENEW_SHARE: Final = 0.2
_REAP_SHARE: Final = 0.1
#: Seconds between two looks for messages that expired where nobody consumes.
EXPIRY_INTERVAL: Final = 0.05


class Session:
    """What one connection owns, for as long as its lease holds. Thread-safe.

    Args:
        store: Where it lives.
        id: Its name there.
        lease: Seconds within which another connection has what this one owned, if it dies.
        give_up: Called with this session when it is worth nothing any more, and the connection
            with it.
    """

    def __init__(
        self, store: Store, id: str, *, lease: float, give_up: Callable[[Session], object]
    ) -> None:
        self.id = id
        self._store = store
        self._lease = lease
        self._give_up = give_up
        self._lock = threading.Lock()
        self._acks = Acks(self._hurry_acks)
        #: None until it begins.
        self.keeper: Keeper | None = None
        self.has_begun = False
        #: Nobody needs it any more.
        self._is_over = False
        #: Queues in which messages may expire that nobody claims.
        self.expiring: set[str] = set()
        #: Queues with `x-expires` that this connection consumes from, and their seconds.
        self._kept: dict[str, float] = {}
        self._keep_at = 0.0
        #: Until when (monotonic seconds) the lease holds for sure, by this machine's clock.
        self._leased_until = 0.0
        self._renew_at = 0.0
        self._reap_at = 0.0
        self._expire_at = 0.0

    def serve(self, broker: Broker, declarations: Declarations, dispatcher: Dispatcher) -> None:
        """Take on the parts of the connection that the work is done by."""
        self._broker = broker
        self._declarations = declarations
        self._dispatcher = dispatcher

    # -- beginning and ending --------------------------------------------------------------

    def begin(self) -> None:
        """Make sure that there is a session with a keeper, because something will be owned."""
        if self.has_begun:
            return
        with self._lock:
            if self.has_begun:
                return
            now = monotonic()
            self._store.begin(self.id, self._lease * _SESSION_SHARE)
            self._leased(now)
            self.has_begun = True
            self.keeper = Keeper(self, name=f"kombu-keeper-{self.id}")

    def leave(self) -> None:
        """Do nothing for it any more; it stays until its lease ends, or `end` is called."""
        self._is_over = True
        self._leased_until = 0.0

    def stop(self) -> None:
        """End the background thread."""
        keeper, self.keeper = self.keeper, None
        if keeper is not None:
            keeper.stop()

    def end(self) -> None:
        """Give back what it owns, if the broker can be reached."""
        if not self.has_begun:
            return
        try:
            self._clean(self.id)
        except KombuError as error:
            logger.debug("A session is left to its lease: %s", error)

    def check(self) -> None:
        """Raise SessionLostError if the lease is known to have run out."""
        if self.has_begun and monotonic() > self._leased_until:
            self.upkeep(monotonic())

    def claiming(self, claim: Callable[[], T]) -> T:
        """Call what claims or gives back; give the session up if the connection broke meanwhile.

        The store may have claimed messages that we never heard of, or not have got back what we
        forgot, and they would be ours as long as the session lives.
        """
        try:
            return claim()
        except OperationalError:
            self._give_up(self)
            raise

    # -- acks ------------------------------------------------------------------------------

    @property
    def is_joined(self) -> bool:
        """Whether the calling thread's commits are part of a transaction of the application's."""
        return False

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

    def flush(self) -> None:
        """Send the acks that wait, and wait for those that another thread is sending.

        Claims that turn out lost are reported by `raise_lost`.
        """
        self._acks.flush(self._broker.acknowledge)

    def raise_lost(self) -> None:
        """Raise LeaseLostError once for the claims that turned out lost."""
        self._acks.raise_lost()

    def _hurry_acks(self) -> None:
        self._hurry(monotonic() + ACK_DELAY)

    def _hurry(self, due: float) -> None:
        if self.keeper is not None:
            self.keeper.hurry(due)

    # -- what has to be watched ------------------------------------------------------------

    def watch_expiry(self, queue: str) -> None:
        """See to it that messages which expire in `queue` leave it, though nobody consumes."""
        if queue in self.expiring:
            return
        self.expiring.add(queue)
        self.begin()
        self._hurry(monotonic() + EXPIRY_INTERVAL)

    def use_queue(self, queue: str, expires: float) -> None:
        """A queue with `x-expires` was used: it lives for `expires` seconds from now, unused.

        It has a session of its own, so that whoever reaps the dead finds it when its time is over.
        """
        self.begin()
        self._store.begin(expiry_session(queue), expires)
        self._reap_at = min(self._reap_at, monotonic() + expires)
        self._hurry(self._reap_at)

    def keep_queue(self, queue: str, expires: float) -> None:
        """A queue with `x-expires` is consumed from: it lives as long as that lasts."""
        self._kept[queue] = expires
        self.use_queue(queue, expires)
        self._keep_at = 0.0
        self._hurry(monotonic())

    # -- upkeep ----------------------------------------------------------------------------

    def upkeep(self, now: float) -> float:
        """Called by the keeper: renew, flush, reap, expire; returns when to come again."""
        if self._is_over:
            return now + 1.0
        if now >= self._renew_at:  # First: nothing else that fails may cost the lease.
            self._renew(now)
        self.flush()
        if self._kept and now >= self._keep_at:
            self._keep_queues(now)
        if self.expiring and now >= self._reap_at:
            self._forget_deleted()
        self.reap_when_due(now)
        due = min(self._renew_at, self._reap_at)
        if self._kept:
            due = min(due, self._keep_at)
        if self.expiring:
            if now >= self._expire_at:
                has_more = self.claiming(lambda: self._broker.expire(tuple(self.expiring)))
                self._expire_at = now + (0.0 if has_more else EXPIRY_INTERVAL)
            due = min(due, self._expire_at)
        return due

    def _renew(self, now: float) -> None:
        if not self._store.renew(self.id, self._lease * _SESSION_SHARE):
            if self._is_over:
                return  # It was ended by another thread meanwhile.
            # Others have our claims by now: nothing of this connection is worth keeping.
            self._give_up(self)
            raise SessionLostError("The lease of this connection ran out")
        self._leased(now)

    def _leased(self, now: float) -> None:
        self._leased_until = now + self._lease * _SESSION_SHARE
        self._renew_at = now + self._lease * _RENEW_SHARE

    def _keep_queues(self, now: float) -> None:
        """Renew the time of the queues that are consumed from; it begins anew with the last one."""
        for queue, expires in list(self._kept.items()):
            if not self._dispatcher.consumes_from(queue):
                del self._kept[queue]
            self.use_queue(queue, expires)
        self._keep_at = now + min(list(self._kept.values()), default=float("inf")) / 3

    def _forget_deleted(self) -> None:
        """Nothing expires any more in queues that are gone."""
        watched = tuple(self.expiring)
        documents = self._store.read([queue_key(queue) for queue in watched])
        there = zip(watched, documents, strict=True)
        self.expiring.difference_update(queue for queue, found in there if not found.version)

    # -- the dead --------------------------------------------------------------------------

    def reap_when_due(self, now: float) -> None:
        """`reap`, if that was not done for a while."""
        if now >= self._reap_at:
            self._reap_at = now + self._lease * _REAP_SHARE
            self.reap()

    def reap(self) -> None:
        """Give back the messages of dead sessions, and delete what they owned."""
        for session in self._store.reap():
            self._clean(session)

    def _clean(self, session: str) -> None:
        """Delete the exclusive queues and consumers of a session, then the session."""
        store, declarations = self._store, self._declarations
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
