"""What the tests do with a store, in short words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kombu_beanstalk.store import BeanstalkStore
from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Claimed, CommitResult, Put, Release, Want


def envelope(text: str) -> Envelope:
    return Envelope(text.encode(), {"content_type": "text/plain"}, {}, "", "q")


def put(
    store: BeanstalkStore,
    *words: str,
    queue: str = "q",
    expect: Sequence[tuple[str, int]] = (),
    **attributes: Any,
) -> None:
    puts = [Put(queue, envelope(word), **attributes) for word in words]
    store.commit(Batch(puts, expect=expect))


def claim(
    store: BeanstalkStore, limit: int = 100, session: str = "me", queue: str = "q"
) -> list[Claimed]:
    return store.claim([Want(queue, limit)], session, limit)


def words(claimed: list[Claimed]) -> list[str]:
    return [item.content.body.decode() for item in claimed if isinstance(item.content, Envelope)]


def settle(store: BeanstalkStore, session: str = "me", **batch: Any) -> CommitResult:
    return store.commit(Batch(session=session, **batch))


def give_back(store: BeanstalkStore, claimed: list[Claimed], *, is_delivered: bool = True) -> None:
    result = settle(store, releases=[Release(item.claim, is_delivered) for item in claimed])
    assert not result.lost
