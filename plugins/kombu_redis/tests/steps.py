"""What the tests do with a store, in short words."""

from __future__ import annotations

from typing import Any

from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Claimed, CommitResult, Put, Release, Want
from kombu_redis.store import RedisStore


def envelope(text: str) -> Envelope:
    return Envelope(text.encode(), {"content_type": "text/plain"}, {}, "", "q")


def put(store: RedisStore, *words: str, queue: str = "q", **attributes: Any) -> None:
    store.commit(Batch([Put(queue, envelope(word), **attributes) for word in words]))


def claim(
    store: RedisStore, limit: int = 100, session: str = "me", queue: str = "q"
) -> list[Claimed]:
    return store.claim([Want(queue, limit)], session, limit)


def words(claimed: list[Claimed]) -> list[str]:
    return [item.content.body.decode() for item in claimed if isinstance(item.content, Envelope)]


def settle(store: RedisStore, session: str = "me", **batch: Any) -> CommitResult:
    return store.commit(Batch(session=session, **batch))


def give_back(store: RedisStore, claimed: list[Claimed], *, is_delivered: bool = True) -> None:
    result = settle(store, releases=[Release(item.claim, is_delivered) for item in claimed])
    assert not result.lost
