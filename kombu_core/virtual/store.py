"""Contract 2: what a store has to do, so that the core can be an AMQP broker on top of it.

A store is a compare-and-set table of small documents (exchanges, bindings, queues, consumers) and
a set of leased queues. It knows nothing of exchanges, dead letters or channels. Whatever must be
atomic is one call here; everything else is the core's.

Rules for all methods:

* Any of them may be called from any thread at any time, also while another one blocks in `wait`.
* Only `wait` may block for longer than a round trip.
* Errors of the driver come out as `kombu_core.exceptions.BrokerError` and its subclasses.
* The store's clock decides about leases, delays and expiry; callers pass durations in seconds.
* A queue exists for the store as soon as something is put into it; whether it was *declared* is
  a document, and the core's business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from kombu_core.capabilities import StoreCapabilities
from kombu_core.message import Envelope, Malformed


class Conflict(Exception):
    """A document moved since the caller read it; `keys` names those that did, as in `expect`.

    Control flow between store and core, so it is no part of the public error tree.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(", ".join(self.keys))


class Document(NamedTuple):
    """One row of the document table. An absent document has version 0 and an empty value."""

    key: str
    version: int
    value: bytes


class Drop(NamedTuple):
    """A queue whose messages go with the document that is written in the same step."""

    queue: str
    #: Refuse the whole write with `NotEmpty` if messages are ready.
    if_empty: bool = False


class NotEmpty(Exception):
    """`NotEmpty(queue)`: it was to be dropped `if_empty`, and has ready messages.

    Nothing was changed.
    """


class WriteResult(NamedTuple):
    """What `Store.write` did."""

    #: The new version of each written document, 0 for a deleted one.
    versions: Mapping[str, int]
    #: How many ready messages each drop deleted, in the order of the drops.
    dropped: Sequence[int] = ()


class Put(NamedTuple):
    """One message on its way into one queue."""

    queue: str
    envelope: Envelope
    #: 0 to 255; the highest is delivered first, the core has clamped it to the queue's maximum.
    priority: int = 0
    #: Seconds until it becomes ready; it takes its place in the queue at that moment.
    delay: float = 0.0
    #: Seconds that it may stay ready (counted from the end of `delay`); None: for ever.
    ttl: float | None = None


class Claim(NamedTuple):
    """The identity of a claimed message: made by `Store.claim`, given back to settle it."""

    queue: str
    id: str


class Claimed(NamedTuple):
    """A message leased to the session that claimed it."""

    claim: Claim
    #: What was put, or `Malformed` if the stored bytes are no envelope.
    content: Envelope | Malformed
    #: How often it was handed out before, and returned as delivered or taken from the dead.
    deliveries: int = 0
    #: Its time to live ran out while it was ready: not to be delivered any more.
    is_expired: bool = False
    #: AMQP priority as stored, for putting it elsewhere.
    priority: int = 0


class Release(NamedTuple):
    """Give a claimed message back to its queue, at its old place."""

    claim: Claim
    #: Whether an application saw it: then `Claimed.deliveries` counts one more next time.
    is_delivered: bool = True


class Limit(NamedTuple):
    """How long a queue may grow; what is claimed does not count (as RabbitMQ)."""

    max_length: int | None = None
    max_bytes: int | None = None
    #: drop-head: what would be delivered next leaves; reject: the put is not stored.
    overflow: Literal["drop-head", "reject"] = "drop-head"
    #: Whether a message that left is claimed for the session (to be dead-lettered) or deleted. If
    #: the session does not live, `reap` names it, so that `end` gives back what it did not settle.
    keep_dropped: bool = False


class Batch(NamedTuple):
    """What one `Store.commit` applies."""

    puts: Sequence[Put] = ()
    acks: Sequence[Claim] = ()
    releases: Sequence[Release] = ()
    #: (key, version) of the documents that this batch was made by.
    expect: Sequence[tuple[str, int]] = ()
    #: Whose claims `acks` and `releases` settle, and who gets what a limit pushed out.
    session: str = ""
    limits: Mapping[str, Limit] = {}


class CommitResult(NamedTuple):
    """What became of a batch.

    A claim that is gone although its session lives was on a queue that was dropped: settling it
    does nothing, and is no loss (as RabbitMQ).
    """

    #: Claims that ended with the lease of their session. If there are any, nothing was applied.
    lost: Sequence[Claim] = ()
    #: Positions in `Batch.puts` that a full queue refused; all others were stored.
    rejected: Sequence[int] = ()
    #: Messages that a limit pushed out and that were claimed for the session.
    dropped: Sequence[Claimed] = ()


class Want(NamedTuple):
    """A wish to claim up to `limit` messages of `queue`."""

    queue: str
    limit: int
    #: Take only messages at the head whose time to live ran out.
    expired_only: bool = False


class Counts(NamedTuple):
    """How many messages a queue holds, by state."""

    ready: int
    claimed: int
    delayed: int


class Store(Protocol):
    """One client's handle on a virtual host of a broker. See the module's rules."""

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store can do; constant."""
        ...

    # -- documents -------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[Document]:
        """Return one document for each key, in order; of one moment, if `atomic_commit`."""
        ...

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        """Apply all changes (None deletes) and drops if every expected version still holds.

        A version is never used twice for one key, not even after a delete. A drop deletes all
        there is of a queue; claims on it end. Without `atomic_commit` documents come first: a
        crash leaves messages that nobody can reach, and never a queue that lost its messages.

        Raises:
            Conflict: A version moved; nothing was changed.
            NotEmpty: A queue to drop `if_empty` has ready messages; nothing was changed.
        """
        ...

    def scan(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted; what others there are costs nothing."""
        ...

    # -- queues ----------------------------------------------------------------------------

    def commit(self, batch: Batch) -> CommitResult:
        """Put, acknowledge and release in one step, all or nothing.

        Puts become visible in order. When this returns, what was put is as durable as the store
        can make it. Without `atomic_commit` puts come first: a crash duplicates and never loses.

        Raises:
            Conflict: A version in `batch.expect` moved; nothing was applied.
        """
        ...

    def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        """Lease up to `limit` ready messages to `session`, the wants served in order.

        In each queue the highest priority first, then the oldest. A message leaves the ready set
        only into the claim, in one atomic step. Never blocks; an empty list means nothing ready.

        Raises:
            SessionLostError: The session's lease ran out, reaped or not, or it was never begun.
        """
        ...

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        """Block until something may be ready in one of `queues`; False after `timeout` seconds.

        May return early or in vain. Must return within milliseconds after a put or release by
        any process, and after `close`; uses no processor time meanwhile.
        """
        ...

    def count(self, queue: str) -> Counts:
        """Count the messages of a queue; zeros for an unknown one."""
        ...

    def purge(self, queue: str) -> int:
        """Delete all ready messages (not the claimed ones), and tell how many."""
        ...

    # -- sessions --------------------------------------------------------------------------

    def begin(self, session: str, ttl: float) -> None:
        """Create a session (or renew it) whose lease runs out `ttl` seconds from now.

        A session that was over lives again, and `reap` does not name it; what it had before stays
        released.
        """
        ...

    def renew(self, session: str, ttl: float) -> bool:
        """Push the end of the lease; False if the session is unknown or was named by `reap`.

        If the lease ran out and nobody reaped, it may be in time still, or be False.
        """
        ...

    def end(self, session: str) -> None:
        """Release the claims of a session, as delivered, and forget it. Idempotent.

        Wakes who waits for their queues.
        """
        ...

    def reap(self) -> list[str]:
        """Release the claims of all sessions whose lease ran out, and name those sessions.

        A session is named until `end` forgets it, so that its topology gets cleaned by somebody
        even if the first cleaner dies. Wakes who waits for what came back.
        """
        ...

    def close(self) -> None:
        """Let go of sockets and files; wake who waits. Ends no session. Idempotent."""
        ...
