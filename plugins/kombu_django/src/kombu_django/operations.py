"""What an administrator does: requeue, move, purge, delete. Each is one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from django.db import connections, transaction

from kombu_core.exceptions import NotFoundError
from kombu_core.virtual.tables import CLAIMED, DELAYED, READY
from kombu_core.virtual.topology import queue_key
from kombu_django.fields import Micros
from kombu_django.messages import DjangoQueries, batches
from kombu_django.models import Message
from kombu_django.publishing import shared_connection
from kombu_django.statements import exclusive, notify, shared_versions, take_write_lock

#: What makes a message the last ready one of its level.
_AT_THE_END: Final = {"state": READY, "available_at": None, "place": Micros()}


@contextmanager
def _writing(using: str) -> Iterator[None]:
    with transaction.atomic(using=using):
        if connections[using].vendor == "sqlite":
            take_write_lock(using)
        yield


def requeue(using: str, ids: Sequence[int]) -> int:
    """Make messages ready: what is claimed at its old place, what is delayed at the end.

    Who has claimed one is not asked: it may be handled twice.

    Returns:
        How many there were; ready ones are left alone.
    """
    changed = 0
    with _writing(using):
        for some in batches(ids):
            found = Message.objects.using(using).filter(id__in=some)
            queues = set(found.exclude(state=READY).values_list("queue", flat=True))
            claimed = exclusive(found.filter(state=CLAIMED), using).values_list("id", "claimed_by")
            for session in {session for _, session in claimed}:
                mine = [id_ for id_, whose in claimed if whose == session]
                DjangoQueries(connections[using].vendor).release(
                    using, mine, session, is_delivered=True
                )
                changed += len(mine)
            changed += found.filter(state=DELAYED).update(**_AT_THE_END)
            notify(using, queues)
    return changed


def move(using: str, ids: Sequence[int], queue: str) -> int:
    """Move messages to the end of another queue, where they do not expire; claimed ones stay.

    Raises:
        NotFoundError: There is no such queue.
    """
    moved = 0
    with _writing(using):
        if not shared_versions(using, [queue_key(queue)]):
            raise NotFoundError(f"There is no queue {queue!r}")
        for some in batches(ids):
            found = Message.objects.using(using).filter(id__in=some).exclude(state=CLAIMED)
            moved += found.update(queue=queue, expires_at=None, **_AT_THE_END)
        notify(using, [queue])
    return moved


def purge(using: str, queue: str) -> int:
    """Delete what is ready in a queue; what consumers have stays. Returns how many there were."""
    with _writing(using):
        return DjangoQueries(connections[using].vendor).purge(using, queue)


def delete(using: str, queue: str, *, if_empty: bool, if_unused: bool) -> None:
    """Delete a queue with its bindings and all that is in it; its consumers are told.

    It happens at once, also in a transaction.

    Raises:
        PreconditionFailedError: It has ready messages, or consumers, and may not have any.
        ResourceLockedError: It is another connection's own.
        OperationalError: This thread is in a transaction on SQLite.
    """
    channel = shared_connection(using).channel()
    try:
        channel.queue_delete(queue, if_empty=if_empty, if_unused=if_unused)
    finally:
        channel.close()
