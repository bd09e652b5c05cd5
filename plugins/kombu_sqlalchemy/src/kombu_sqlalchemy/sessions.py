"""The statements about sessions: their leases, and giving back what the dead had."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sqlalchemy import Connection

from kombu_core.virtual.tables import CLAIMED, READY
from kombu_sqlalchemy.language import Language


class SessionQueries(Language):
    """Leases, by the database's clock."""

    def begin(self, connection: Connection, session: str, ttl: int) -> None:
        """Create a session or renew it."""
        self.change(connection, self.upsert_session, session=session, ttl=ttl)

    upsert_session: ClassVar[str] = (
        "INSERT INTO {sessions} (name, lease_end, lapsed) VALUES (:session, {now} + :ttl, false) "
        "ON CONFLICT (name) DO UPDATE SET lease_end = excluded.lease_end, lapsed = false"
    )

    def begin_lapsed(self, connection: Connection, session: str) -> None:
        """Remember a session that is over, unless it is known."""
        self.change(connection, self.insert_lapsed, session=session)

    insert_lapsed: ClassVar[str] = (
        "INSERT INTO {sessions} (name, lease_end, lapsed) VALUES (:session, 0, true) "
        "ON CONFLICT (name) DO NOTHING"
    )

    def renew(self, connection: Connection, session: str, ttl: int) -> bool:
        """Push the end of a lease; False if it is over."""
        changed = self.change(
            connection,
            "UPDATE {sessions} SET lease_end = {now} + :ttl WHERE name = :session AND NOT lapsed",
            session=session,
            ttl=ttl,
        )
        return changed > 0

    def is_alive(self, connection: Connection, session: str, *, leased: bool = False) -> bool:
        """Tell whether a session is not over; `leased`: nor about to be."""
        end = " AND lease_end > {now}" if leased else ""
        return bool(
            self.rows(
                connection,
                "SELECT 1 FROM {sessions} WHERE name = :session AND NOT lapsed" + end,
                session=session,
            )
        )

    def forget(self, connection: Connection, session: str) -> None:
        """Delete a session; whoever claims for it just now is waited for."""
        self.change(connection, "DELETE FROM {sessions} WHERE name = :session", session=session)

    def overdue(self, connection: Connection) -> tuple[list[str], list[str]]:
        """Return the sessions that are over, and those whose lease ran out."""
        found = self.rows(
            connection,
            "SELECT name, lapsed FROM {sessions} WHERE lapsed OR lease_end <= {now} ORDER BY name",
        )
        over = [self.name(name) for name, lapsed in found if lapsed]
        return over, [self.name(name) for name, lapsed in found if not lapsed]

    def lapse(self, connection: Connection, sessions: Iterable[str]) -> list[str]:
        """Mark those of them as over whose lease ran out; in a transaction."""
        names = self.among(sessions)
        found = self.rows(
            connection,
            "SELECT name FROM {sessions} WHERE name {among:names} AND NOT lapsed "
            "AND lease_end <= {now} ORDER BY name{update}",
            names=names,
        )
        over = [self.name(name) for (name,) in found]
        if over:
            self.change(
                connection,
                "UPDATE {sessions} SET lapsed = true WHERE name {among:names}",
                names=self.among(over),
            )
        return over

    def release_all(self, connection: Connection, sessions: Iterable[str]) -> list[str]:
        """Give back all claims of sessions, as delivered; returns their queues."""
        names = self.among(sessions)
        found = self.rows(
            connection,
            "SELECT DISTINCT queue FROM {messages} WHERE claimed_by {among:names} "
            f"AND state = {CLAIMED}",
            names=names,
        )
        if found:
            self.change(
                connection,
                f"UPDATE {{messages}} SET state = {READY}, claimed_by = NULL, "
                "deliveries = deliveries + 1 WHERE claimed_by {among:names} "
                f"AND state = {CLAIMED}",
                names=names,
            )
        return [self.name(queue) for (queue,) in found]
