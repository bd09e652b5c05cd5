"""The queries of the store about documents and sessions, by the models.

Each is called with the alias of the database, whose connection of this thread it uses, and neither
begins nor ends a transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django.db import IntegrityError, connections
from django.db.models import F, Q

from kombu_core.virtual.store import Conflict
from kombu_core.virtual.tables import CLAIMED, READY
from kombu_django.fields import Micros
from kombu_django.models import Document, Message, Session, WriteLock
from kombu_django.statements import documents, exclusive, shared_rows, shared_versions

#: The one row that there is in the table of the lock.
_LOCK: Final = 1


class DocumentQueries:
    """Compare and set on small documents."""

    def read(self, using: str, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """See `kombu_core.virtual.tables.Queries`, as for all methods."""
        return {name: (version, value) for name, version, value in documents(using, keys)}

    def lock(self, using: str, keys: Iterable[str]) -> dict[str, int]:
        """Lock the documents that are there, in order, and return their versions."""
        found = Document.objects.using(using).filter(name__in=set(keys)).order_by("name")
        return dict(exclusive(found, using).values_list("name", "version"))

    def check(
        self, using: str, expect: Sequence[tuple[str, int]], *, exclusive: bool = False
    ) -> None:
        """Lock the expected documents until the end of the transaction. Raises Conflict."""
        if not expect:
            return
        keys = [key for key, _ in expect]
        if exclusive:
            there = self.lock(using, keys)
        else:
            there = shared_versions(using, keys)
        moved = [key for key, version in expect if there.get(key, 0) != version]
        if moved:
            raise Conflict(moved)

    def count_up(self, using: str, step: int) -> int:
        """Let no other writer in, and choose versions that nobody has used or will."""
        lock = WriteLock.objects.using(using)
        if not exclusive(lock.filter(id=_LOCK), using):  # As after a flush.
            lock.bulk_create([WriteLock(id=_LOCK, value=0)], **_ignoring(using))
            list(exclusive(lock.filter(id=_LOCK), using))
        return secrets.randbelow(1 << 62) + 1

    def save(self, using: str, documents: Mapping[str, tuple[int, bytes]]) -> None:
        """Insert or replace documents; `count_up` keeps others from inserting the same."""
        table = Document.objects.using(using)
        new = [
            Document(name=name, version=version, value=value)
            for name, (version, value) in documents.items()
            if not table.filter(name=name).update(version=version, value=value)
        ]
        table.bulk_create(new)

    def delete(self, using: str, keys: Sequence[str]) -> None:
        """Delete documents."""
        if keys:
            Document.objects.using(using).filter(name__in=keys).delete()

    def scan(self, using: str, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in the order of their bytes."""
        found = Document.objects.using(using).filter(name__gte=prefix)
        end = text_after(prefix)
        if end is not None:
            found = found.filter(name__lt=end)
        return list(found.order_by("name").values_list("name", flat=True))


class SessionQueries:
    """Leases, by the database's clock."""

    def begin(self, using: str, session: str, ttl: int) -> None:
        """Create a session or renew it; outside of a transaction."""
        values = {"lease_end": Micros() + ttl, "lapsed": False}
        table = Session.objects.using(using)
        if not table.filter(name=session).update(**values):
            try:
                table.bulk_create([Session(name=session, **values)])
            except IntegrityError:  # Somebody else did, at the same moment.
                table.filter(name=session).update(**values)

    def begin_lapsed(self, using: str, session: str) -> None:
        """Remember a session that is over, unless it is known."""
        lapsed = Session(name=session, lease_end=0, lapsed=True)
        Session.objects.using(using).bulk_create([lapsed], **_ignoring(using))

    def renew(self, using: str, session: str, ttl: int) -> bool:
        """Push the end of a lease; False if it is over."""
        found = Session.objects.using(using).filter(name=session, lapsed=False)
        return bool(found.update(lease_end=Micros() + ttl))

    def is_alive(self, using: str, session: str, *, leased: bool = False) -> bool:
        """Tell whether a session is not over; `leased`: nor about to be."""
        return bool(self._living(using, session, leased=leased).exists())

    def hold(self, using: str, session: str) -> bool:
        """Tell whether a session has its lease, and let it not end before the transaction."""
        found = self._living(using, session, leased=True).values_list("lapsed")
        return bool(shared_rows(found, using))

    @staticmethod
    def _living(using: str, session: str, *, leased: bool) -> Any:
        found = Session.objects.using(using).filter(name=session, lapsed=False)
        return found.filter(lease_end__gt=Micros()) if leased else found

    def forget(self, using: str, session: str) -> None:
        """Delete a session; whoever claims for it just now is waited for."""
        Session.objects.using(using).filter(name=session).delete()

    def overdue(self, using: str) -> tuple[list[str], list[str]]:
        """Return the sessions that are over, and those whose lease ran out."""
        found = Session.objects.using(using).filter(Q(lapsed=True) | Q(lease_end__lte=Micros()))
        rows = list(found.order_by("name").values_list("name", "lapsed"))
        over = [name for name, lapsed in rows if lapsed]
        return over, [name for name, lapsed in rows if not lapsed]

    def lapse(self, using: str, sessions: Iterable[str]) -> list[str]:
        """Mark those of them as over whose lease ran out; in a transaction."""
        table = Session.objects.using(using)
        found = table.filter(name__in=list(sessions), lapsed=False, lease_end__lte=Micros())
        over = list(exclusive(found.order_by("name"), using).values_list("name", flat=True))
        if over:
            table.filter(name__in=over).update(lapsed=True)
        return over

    def release_all(self, using: str, sessions: Iterable[str]) -> list[str]:
        """Give back all claims of sessions, as delivered; returns their queues."""
        names = list(sessions)
        found = Message.objects.using(using).filter(claimed_by__in=names, state=CLAIMED)
        queues = list(found.order_by().values_list("queue", flat=True).distinct())
        if queues:
            found.update(state=READY, claimed_by=None, deliveries=F("deliveries") + 1)
        return queues


def text_after(prefix: str) -> str | None:
    """Return the first text behind all that begin with a prefix; None if there is none."""
    for end in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[end]) + 1
        if following <= 0x10FFFF:
            # Between these are no characters.
            return prefix[:end] + chr(0xE000 if 0xD800 <= following < 0xE000 else following)
    return None


def _ignoring(using: str) -> dict[str, bool]:
    """Return the arguments that let `bulk_create` leave alone what is there."""
    return {"ignore_conflicts": bool(connections[using].features.supports_ignore_conflicts)}
