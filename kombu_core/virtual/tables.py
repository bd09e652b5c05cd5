"""What a store on a database with transactions is made of: rows, and the queries about them.

`TableStore` turns them into a store. A plugin says how its database is asked: it knows the SQL (or
what stands for it), and this knows none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol, TypeVar

from kombu_core.virtual.envelope import encode
from kombu_core.virtual.store import Put

T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)
C_contra = TypeVar("C_contra", contravariant=True)

#: States of a message.
READY: Final = 0
DELAYED: Final = 1
CLAIMED: Final = 2

MAX_PRIORITY: Final = 255

#: Delayed messages that become ready in one step, at most.
PROMOTED: Final = 1000


def micros(seconds: float) -> int:
    """Return whole microseconds."""
    return round(seconds * 1_000_000)


class Message(NamedTuple):
    """A message on its way into the table; times are microseconds from now."""

    queue: str
    #: 255 - priority: the smallest is next.
    level: int
    delay: int | None
    #: Until it expires, the delay included.
    life: int | None
    #: Of the application's body, which is the end of `body`.
    size: int
    body: bytes

    @classmethod
    def of(cls, put: Put) -> Message:
        """Make it from what the core wants to put."""
        queue, envelope, priority, delay, ttl = put
        wait = micros(delay) if delay > 0 else None
        life = None if ttl is None else micros(ttl) + (wait or 0)
        body = encode(envelope)
        return cls(queue, MAX_PRIORITY - priority, wait, life, len(envelope.body), body)

    @property
    def state(self) -> int:
        """Where it begins."""
        return READY if self.delay is None else DELAYED


class Taken(NamedTuple):
    """A row that was claimed."""

    id: int
    level: int
    deliveries: int
    is_expired: bool
    body: bytes


class QueueState(NamedTuple):
    """What there is to do in a queue."""

    queue: str
    is_ready: bool
    #: Microseconds until the next delayed message is due; None without one.
    due: int | None


def soonest(states: Iterable[QueueState]) -> float:
    """Return the seconds until there is something to do in one of the queues; infinity: never."""
    left = [0 if state.is_ready else state.due for state in states]
    return min((due / 1_000_000 for due in left if due is not None), default=float("inf"))


class Bound(NamedTuple):
    """Where a message is in its queue; before it is what is smaller."""

    level: int
    #: When it became ready, or will.
    place: int
    id: int


class Database(Protocol[C_co]):
    """The way to a database, whose connections are of the type `C`. Thread-safe."""

    def run(self, work: Callable[[C_co], T], *, writes: bool = False) -> T:
        """Call `work` with a connection on which each statement is a transaction of its own.

        It may be called again if another transaction got in its way, so it should change nothing
        but by its last statement.
        """
        ...

    def transact(self, work: Callable[[C_co], T]) -> T:
        """Call `work` in a transaction that is committed when it returns and undone if it raises.

        It may be called again if another transaction got in its way.
        """
        ...

    def watching(self) -> AbstractContextManager[C_co]:
        """Lend a connection to who only looks."""
        ...

    def after_fork(self, call: Callable[[], object]) -> None:
        """Let something be called in a forked child, before anything else is done there."""
        ...

    def close(self) -> None:
        """Close all connections. Idempotent."""
        ...


class Queries(Protocol[C_contra]):
    """The statements of a store. None of them begins or ends a transaction."""

    @property
    def claims_alone(self) -> bool:
        """Whether `claim` needs no transaction around it."""
        ...

    # -- documents -------------------------------------------------------------------------

    def read(self, connection: C_contra, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Return version and value of the documents that are there."""
        ...

    def lock(self, connection: C_contra, keys: Iterable[str]) -> object:
        """Lock the documents that are there, in order."""
        ...

    def check(
        self,
        connection: C_contra,
        expect: Sequence[tuple[str, int]],
        *,
        exclusive: bool = False,
    ) -> None:
        """Lock the expected documents until the end of the transaction. Raises Conflict."""
        ...

    def count_up(self, connection: C_contra, step: int) -> int:
        """Take `step` versions, and let no other writer in until the end of the transaction."""
        ...

    def save(self, connection: C_contra, documents: Mapping[str, tuple[int, bytes]]) -> None:
        """Insert or replace documents."""
        ...

    def delete(self, connection: C_contra, keys: Sequence[str]) -> None:
        """Delete documents."""
        ...

    def scan(self, connection: C_contra, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in the order of their bytes."""
        ...

    # -- messages --------------------------------------------------------------------------

    def publishes_alone(
        self, messages: Sequence[Message], expect: Sequence[tuple[str, int]]
    ) -> bool:
        """Whether `publish` needs no transaction around it for these."""
        ...

    def publish(
        self,
        connection: C_contra,
        messages: Sequence[Message],
        expect: Sequence[tuple[str, int]],
    ) -> None:
        """Insert messages, guarded by documents; in a transaction, unless `publishes_alone`.

        Raises:
            Conflict: A document moved; nothing was done.
        """
        ...

    def insert(self, connection: C_contra, messages: Sequence[Message]) -> None:
        """Insert messages, in order."""
        ...

    def notify(self, connection: C_contra, queues: Iterable[str]) -> None:
        """Wake who waits for these queues when the transaction is committed, where that goes."""
        ...

    def promote(self, connection: C_contra, queue: str) -> int:
        """Make the first `PROMOTED` delayed messages ready whose time has come; in a transaction.

        Returns how many there were, but for those that others are about to make ready.
        """
        ...

    def claim(
        self,
        connection: C_contra,
        queue: str,
        session: str,
        limit: int,
        *,
        before: Bound | None = None,
        is_guarded: bool = True,
    ) -> list[Taken]:
        """Lease the next ready messages; none if the session is over.

        `before` takes only those that expired and whose place is before it; `is_guarded` takes
        none if delayed ones are due, which might come first.
        """
        ...

    def peek(self, connection: C_contra, queues: Iterable[str]) -> list[QueueState]:
        """Tell what there is to do in queues."""
        ...

    def heads(self, connection: C_contra, queues: Iterable[str]) -> list[str]:
        """Return the queues whose first message expired, or which have messages that are due."""
        ...

    def first_fresh(self, connection: C_contra, queue: str) -> Bound:
        """Return the place of the first ready message that did not expire; or the very end."""
        ...

    def lease(
        self, connection: C_contra, queue: str, session: str, count: int, *, keep: bool
    ) -> list[Taken]:
        """Take what would be delivered next, for a session or (not `keep`) to delete it."""
        ...

    def acknowledge(self, connection: C_contra, ids: Iterable[int], session: str) -> int:
        """Delete what a session claimed; returns how many there were."""
        ...

    def release(
        self, connection: C_contra, ids: Iterable[int], session: str, *, is_delivered: bool
    ) -> None:
        """Give back what a session claimed, at its old place."""
        ...

    def held(self, connection: C_contra, ids: Iterable[int], session: str) -> set[int]:
        """Return and lock those messages that a session has."""
        ...

    def count(self, connection: C_contra, queue: str) -> dict[int, int]:
        """Return the number of messages by state; what is due is ready."""
        ...

    def length(self, connection: C_contra, queue: str, most: int | None) -> tuple[int, int]:
        """Return number and bytes of the ready messages; looks at no more than `most`."""
        ...

    def purge(self, connection: C_contra, queue: str) -> int:
        """Delete what is ready or due; in a transaction."""
        ...

    def drop(self, connection: C_contra, queues: Iterable[str]) -> None:
        """Delete all there is of queues; in a transaction."""
        ...

    # -- sessions --------------------------------------------------------------------------

    def begin(self, connection: C_contra, session: str, ttl: int) -> None:
        """Create a session or renew it."""
        ...

    def begin_lapsed(self, connection: C_contra, session: str) -> None:
        """Remember a session that is over, unless it is known."""
        ...

    def renew(self, connection: C_contra, session: str, ttl: int) -> bool:
        """Push the end of a lease; False if it is over."""
        ...

    def is_alive(self, connection: C_contra, session: str, *, leased: bool = False) -> bool:
        """Tell whether a session is not over; `leased`: nor about to be."""
        ...

    def forget(self, connection: C_contra, session: str) -> None:
        """Delete a session; whoever claims for it just now is waited for."""
        ...

    def overdue(self, connection: C_contra) -> tuple[list[str], list[str]]:
        """Return the sessions that are over, and those whose lease ran out."""
        ...

    def lapse(self, connection: C_contra, sessions: Iterable[str]) -> list[str]:
        """Mark those of them as over whose lease ran out; in a transaction."""
        ...

    def release_all(self, connection: C_contra, sessions: Iterable[str]) -> list[str]:
        """Give back all claims of sessions, as delivered; returns their queues."""
        ...
