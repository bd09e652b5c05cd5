"""The queries of the store about messages: in, out, settled, counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from django.db.models import (
    BooleanField,
    Case,
    Count,
    F,
    Q,
    QuerySet,
    SmallIntegerField,
    Sum,
    Value,
    When,
)

from kombu_core.virtual.store import Conflict
from kombu_core.virtual.tables import (
    CLAIMED,
    MAX_PRIORITY,
    PROMOTED,
    READY,
    Bound,
    QueueState,
    Taken,
)
from kombu_core.virtual.tables import Message as NewMessage
from kombu_django import claiming
from kombu_django.fields import Micros
from kombu_django.models import Message
from kombu_django.queries import DocumentQueries, SessionQueries
from kombu_django.statements import (
    GUARDED,
    exclusive,
    heads,
    insert,
    insert_guarded,
    notify,
    states,
)

#: Ids that are named in one statement.
_IDS: Final = 900

_IN_ORDER: Final = ("level", "place", "id")
#: Delayed messages, which alone have such a time, and an index of it.
_DUE: Final = Q(available_at__lte=Micros())
_EXPIRED: Final = Case(
    When(expires_at__lte=Micros(), then=Value(True)),
    default=Value(False),
    output_field=BooleanField(),
)


class DjangoQueries(DocumentQueries, SessionQueries):
    """All queries of the store; see `kombu_core.virtual.tables.Queries`."""

    def __init__(self, vendor: str) -> None:
        self._is_guarded_insert = vendor in GUARDED
        #: Else two statements: what is locked, and what becomes of it.
        self.claims_alone = claiming.is_known(vendor)

    # -- messages in -----------------------------------------------------------------------

    def publishes_alone(
        self, messages: Sequence[NewMessage], expect: Sequence[tuple[str, int]]
    ) -> bool:
        """Whether it is one statement, which is guarded by what is there, not by what is not."""
        is_single = self._is_guarded_insert and len(messages) == 1
        return is_single and all(version for _, version in expect)

    def publish(
        self, using: str, messages: Sequence[NewMessage], expect: Sequence[tuple[str, int]]
    ) -> None:
        """Insert messages, guarded by documents. Raises Conflict."""
        if not self.publishes_alone(messages, expect):
            self.check(using, expect)
            insert(using, messages)
        elif not insert_guarded(using, messages[0], expect):
            self.check(using, expect)
            raise Conflict(key for key, _ in expect)

    def insert(self, using: str, messages: Sequence[NewMessage]) -> None:
        """Insert messages, in order."""
        insert(using, messages)

    def notify(self, using: str, queues: Iterable[str]) -> None:
        """Tell who waits for these queues, when the transaction is committed, on PostgreSQL."""
        notify(using, set(queues))

    def promote(self, using: str, queue: str) -> int:
        """Make delayed messages ready whose time has come; they have their places already."""
        due = Message.objects.using(using).filter(_DUE, queue=queue)
        due = exclusive(due.order_by("available_at", "id"), using, skips=True)
        ids = list(due.values_list("id", flat=True)[:PROMOTED])
        for some in batches(ids):
            self._those(using, some).update(state=READY, available_at=None)
        return len(ids)

    # -- messages out ----------------------------------------------------------------------

    def claim(
        self,
        using: str,
        queue: str,
        session: str,
        limit: int,
        *,
        before: Bound | None = None,
        is_guarded: bool = True,
    ) -> list[Taken]:
        """Lease the next ready messages; see `kombu_core.virtual.tables.Queries.claim`."""
        if self.claims_alone:
            return claiming.claim(using, queue, session, limit, before, is_guarded=is_guarded)
        if is_guarded and Message.objects.using(using).filter(_DUE, queue=queue).exists():
            return []
        found = self._ready(using, queue)
        if before is not None:
            found = found.filter(self._before(before), expires_at__lte=Micros())
        taken = self._taken(exclusive(found, using, skips=True), limit)
        if not taken or not self.hold(using, session):
            return []
        self._lease(using, (row.id for row in taken), session)
        return taken

    @staticmethod
    def _before(bound: Bound) -> Q:
        """Return what is true of messages that are before a place."""
        level, place, id_ = bound
        earlier = Q(place__lt=place) | Q(place=place, id__lt=id_)
        return Q(level__lt=level) | Q(earlier, level=level)

    @staticmethod
    def _those(using: str, ids: Sequence[int]) -> QuerySet[Any]:
        return Message.objects.using(using).filter(id__in=ids)

    @staticmethod
    def _ready(using: str, queue: str) -> QuerySet[Any]:
        found = Message.objects.using(using).filter(queue=queue, state=READY)
        return found.order_by(*_IN_ORDER)

    @staticmethod
    def _taken(found: QuerySet[Any], limit: int) -> list[Taken]:
        columns = found.values_list("id", "level", "deliveries", _EXPIRED, "body")
        return [Taken._make((*row[:-1], bytes(row[-1]))) for row in columns[:limit]]

    def _lease(self, using: str, ids: Iterable[int], session: str) -> None:
        for some in batches(ids):
            self._those(using, some).update(state=CLAIMED, claimed_by=session)

    def peek(self, using: str, queues: Iterable[str]) -> list[QueueState]:
        """Tell what there is to do in queues."""
        names = list(queues)
        found = states(using, names)
        return [QueueState(names[number], is_ready, due) for number, is_ready, due in found]

    def heads(self, using: str, queues: Iterable[str]) -> list[str]:
        """Return the queues whose first message expired, or which have messages that are due."""
        names = list(queues)
        return [names[number] for number in heads(using, names)]

    def first_fresh(self, using: str, queue: str) -> Bound:
        """Return the place of the first ready message that did not expire; or the very end."""
        fresh = Q(expires_at=None) | Q(expires_at__gt=Micros())
        found = self._ready(using, queue).filter(fresh).values_list(*_IN_ORDER)[:1]
        return Bound(*found[0]) if found else Bound(MAX_PRIORITY + 1, 0, 0)

    def lease(self, using: str, queue: str, session: str, count: int, *, keep: bool) -> list[Taken]:
        """Take what would be delivered next, for a session or (not `keep`) to delete it."""
        taken = self._taken(exclusive(self._ready(using, queue), using), count)
        ids = [row.id for row in taken]
        if keep:
            self._lease(using, ids, session)
        else:
            for some in batches(ids):
                self._those(using, some).delete()
        return taken

    # -- settling --------------------------------------------------------------------------

    def acknowledge(self, using: str, ids: Iterable[int], session: str) -> int:
        """Delete what a session claimed; returns how many there were."""
        if self.claims_alone:
            return claiming.acknowledge(using, ids, session)
        return sum(
            self._those(using, some).filter(claimed_by=session).delete()[0]
            for some in batches(sorted(ids))
        )

    def release(self, using: str, ids: Iterable[int], session: str, *, is_delivered: bool) -> None:
        """Give back what a session claimed, at its old place."""
        for some in batches(sorted(ids)):
            self._those(using, some).filter(claimed_by=session).update(
                state=READY, claimed_by=None, deliveries=F("deliveries") + int(is_delivered)
            )

    def held(self, using: str, ids: Iterable[int], session: str) -> set[int]:
        """Return and lock those messages that a session has."""
        found: set[int] = set()
        for some in batches(sorted(ids)):
            mine = self._those(using, some).filter(claimed_by=session).order_by("id")
            found.update(exclusive(mine, using).values_list("id", flat=True))
        return found

    # -- whole queues ----------------------------------------------------------------------

    def count(self, using: str, queue: str) -> dict[int, int]:
        """Return the number of messages by state; what is due is ready."""
        found = Message.objects.using(using).filter(queue=queue)
        now_in = Case(
            When(_DUE, then=Value(READY)), default=F("state"), output_field=SmallIntegerField()
        )
        numbers = found.order_by().annotate(now_in=now_in).values("now_in").annotate(n=Count("id"))
        return {row["now_in"]: row["n"] for row in numbers}

    def length(self, using: str, queue: str, most: int | None) -> tuple[int, int]:
        """Return number and bytes of the ready messages; looks at no more than `most`."""
        found = self._ready(using, queue)[:most].aggregate(n=Count("id"), size=Sum("size"))
        return found["n"], int(found["size"] or 0)

    def purge(self, using: str, queue: str) -> int:
        """Delete what is ready or due."""
        found = Message.objects.using(using).filter(queue=queue)
        # In this order nothing is missed that becomes ready between the two.
        due: int = found.filter(_DUE).delete()[0]
        ready: int = found.filter(state=READY).delete()[0]
        return due + ready

    def drop(self, using: str, queues: Iterable[str]) -> None:
        """Delete all there is of queues."""
        Message.objects.using(using).filter(queue__in=list(queues)).delete()


def batches(ids: Iterable[int]) -> Iterable[list[int]]:
    """Return ids in lists that one statement may name."""
    rest = iter(ids)
    while some := list(islice(rest, _IDS)):
        yield some
