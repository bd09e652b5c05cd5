"""What there is in the queues of a database, for people: depth, age, consumers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Count, Min, Q

from kombu_core.virtual.tables import CLAIMED, DELAYED, READY
from kombu_core.virtual.topology import (
    QueueRecord,
    consumers_key,
    load_consumers,
    load_queue,
    queue_key,
)
from kombu_django.fields import Micros
from kombu_django.models import Document, Message
from kombu_django.queries import text_after
from kombu_django.statements import now

#: What the names of the documents of queues begin with.
PREFIX: Final = queue_key("")
#: Where undecodable messages go; it need not be declared.
QUARANTINE: Final = "kombu.quarantine"

#: Delayed messages whose time has come are as good as ready.
_READY: Final = Q(state=READY) | Q(state=DELAYED, available_at__lte=Micros())


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """A queue and what is in it. Ages are seconds."""

    name: str
    #: None: it is not declared, and has messages nevertheless.
    record: QueueRecord | None
    ready: int
    delayed: int
    claimed: int
    #: Age of the oldest message that no consumer has; None: there is none.
    oldest: float | None
    #: Tags of its consumers, by the session that has them.
    consumers: tuple[tuple[str, str], ...]


def queue_documents(using: str) -> Any:
    """Return the documents of all queues, in the order of their names."""
    found = Document.objects.using(using).filter(name__gte=PREFIX, name__lt=text_after(PREFIX))
    return found.order_by("name")


def record_of(document: Document) -> QueueRecord:
    """Return the queue that a document is about."""
    return load_queue(bytes(document.value))


def overviews(using: str) -> list[QueueOverview]:
    """Return an overview of all queues of a database, in the order of their names."""
    declared = [record_of(document) for document in queue_documents(using)]
    return look(using, declared)


def look(using: str, declared: Iterable[QueueRecord]) -> list[QueueOverview]:
    """Return an overview of these queues, and of the quarantine if there is something in it."""
    records: dict[str, QueueRecord | None] = {record.name: record for record in declared}
    if Message.objects.using(using).filter(queue=QUARANTINE).exists():
        records.setdefault(QUARANTINE, None)
    counted = {
        row["queue"]: row
        for row in Message.objects.using(using)
        .filter(queue__in=list(records))
        .order_by()
        .values("queue")
        .annotate(
            ready=Count("id", filter=_READY),
            claimed=Count("id", filter=Q(state=CLAIMED)),
            all=Count("id"),
            oldest=Min("put_at", filter=~Q(state=CLAIMED)),
        )
    }
    consumers = {
        document.name: load_consumers(bytes(document.value))
        for document in Document.objects.using(using).filter(
            name__in=[consumers_key(name) for name in records]
        )
    }
    moment = now(using)
    found = []
    for name, record in records.items():
        row = counted.get(name, {"ready": 0, "claimed": 0, "all": 0, "oldest": None})
        oldest = row["oldest"]
        found.append(
            QueueOverview(
                name,
                record,
                row["ready"],
                row["all"] - row["ready"] - row["claimed"],
                row["claimed"],
                None if oldest is None else max(0, moment - oldest) / 1_000_000,
                tuple(
                    (consumer.session, consumer.tag)
                    for consumer in consumers.get(consumers_key(name), ())
                ),
            )
        )
    return found
