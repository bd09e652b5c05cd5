"""What the tests do with a store, in short words."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection

from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Claimed, CommitResult, Put, Release, Want
from kombu_sqlalchemy.store import SQLAlchemyStore


def envelope(text: str) -> Envelope:
    return Envelope(text.encode(), {"content_type": "text/plain"}, {}, "", "q")


def put(store: SQLAlchemyStore, *words: str, queue: str = "q", **attributes: Any) -> None:
    store.commit(Batch([Put(queue, envelope(word), **attributes) for word in words]))


def claim(
    store: SQLAlchemyStore, limit: int = 100, session: str = "me", queue: str = "q"
) -> list[Claimed]:
    return store.claim([Want(queue, limit)], session, limit)


def words(claimed: list[Claimed]) -> list[str]:
    return [item.content.body.decode() for item in claimed if isinstance(item.content, Envelope)]


def settle(store: SQLAlchemyStore, session: str = "me", **batch: Any) -> CommitResult:
    return store.commit(Batch(session=session, **batch))


def give_back(store: SQLAlchemyStore, claimed: list[Claimed], *, is_delivered: bool = True) -> None:
    result = settle(store, releases=[Release(item.claim, is_delivered) for item in claimed])
    assert not result.lost


def rows(store: SQLAlchemyStore, table: str = "messages") -> int:
    """How many rows a table has."""
    queries = store.queries
    return int(
        store.database.run(
            lambda connection: queries.rows(connection, f"SELECT count(*) FROM {{{table}}}")
        )[0][0]
    )


def empty(store: SQLAlchemyStore) -> None:
    """Delete all documents, messages and sessions."""

    def delete(connection: Connection) -> None:
        for table in ("documents", "messages", "sessions"):
            store.queries.change(connection, f"DELETE FROM {{{table}}}")

    store.database.run(delete)


def overwrite(store: SQLAlchemyStore, message: int, body: bytes) -> None:
    """Put other bytes into the row of a message."""
    text = "UPDATE {messages} SET body = :body WHERE id = :id"
    store.database.run(
        lambda connection: store.queries.change(connection, text, body=body, id=message)
    )


def together(*works: Callable[[], object]) -> None:
    """Run all at once, each in a thread, and raise what one of them raised."""
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work) for work in works]:
            future.result()
