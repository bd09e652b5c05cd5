"""The statements about documents: reading, guarding by versions, writing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from sqlalchemy import Connection

from kombu_core.virtual.store import Conflict
from kombu_sqlalchemy.language import Language


class DocumentQueries(Language):
    """Compare and set on small documents."""

    def read(self, connection: Connection, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Return version and value of the documents that are there."""
        found = self.rows(
            connection,
            "SELECT name, version, value FROM {documents} WHERE name {among:keys}",
            keys=self.among(keys),
        )
        return {self.name(name): (version, bytes(value)) for name, version, value in found}

    def lock(self, connection: Connection, keys: Iterable[str]) -> object:
        """Lock the documents that are there, in order."""
        return self.versions(connection, keys, lock=self.update)

    def versions(
        self, connection: Connection, keys: Iterable[str], *, lock: str = ""
    ) -> dict[str, int]:
        """Return the versions of the documents that are there, and lock them in order."""
        found = self.rows(
            connection,
            "SELECT name, version FROM {documents} WHERE name {among:keys} ORDER BY name" + lock,
            keys=self.among(sorted(set(keys))),
        )
        return {self.name(name): version for name, version in found}

    def check(
        self,
        connection: Connection,
        expect: Sequence[tuple[str, int]],
        *,
        exclusive: bool = False,
    ) -> None:
        """Lock the expected documents until the end of the transaction. Raises Conflict."""
        if not expect:
            return
        lock = self.update if exclusive else self.share
        found = self.versions(connection, (key for key, _ in expect), lock=lock)
        moved = [key for key, version in expect if found.get(key, 0) != version]
        if moved:
            raise Conflict(moved)

    def count_up(self, connection: Connection, step: int) -> int:
        """Take `step` versions, and let no other writer in until the end of the transaction."""
        self.change(
            connection, "UPDATE {meta} SET value = value + :step WHERE name = 'counter'", step=step
        )
        ((value,),) = self.rows(connection, "SELECT value FROM {meta} WHERE name = 'counter'")
        return int(value) - step + 1

    def save(self, connection: Connection, documents: Mapping[str, tuple[int, bytes]]) -> None:
        """Insert or replace documents."""
        if not documents:
            return
        connection.execute(
            self.sql(self.upsert),
            [
                {"name": name, "version": version, "value": value}
                for name, (version, value) in documents.items()
            ],
        )

    upsert: ClassVar[str] = (
        "INSERT INTO {documents} (name, version, value) VALUES (:name, :version, :value) "
        "ON CONFLICT (name) DO UPDATE SET version = excluded.version, value = excluded.value"
    )

    def delete(self, connection: Connection, keys: Sequence[str]) -> None:
        """Delete documents."""
        if keys:
            self.change(
                connection, "DELETE FROM {documents} WHERE name {among:keys}", keys=self.among(keys)
            )

    def scan(self, connection: Connection, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in the order of their bytes."""
        template, end = "SELECT name FROM {documents} WHERE name >= :prefix", _after(prefix)
        if end is not None:
            template += " AND name < :end"
        found = self.rows(connection, template + " ORDER BY name", prefix=prefix, end=end)
        return [self.name(name) for (name,) in found]


def _after(prefix: str) -> str | None:
    """Return the first text behind all that begin with a prefix; None if there is none."""
    while prefix:
        last = ord(prefix[-1]) + 1
        if 0xD800 <= last < 0xE000:
            last = 0xE000  # Between are no characters.
        if last <= 0x10FFFF:
            return prefix[:-1] + chr(last)
        prefix = prefix[:-1]
    return None
