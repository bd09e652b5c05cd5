"""The store contract on each database, and what is special to its rows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from kombu_core.message import Envelope, Malformed
from kombu_core.testing.store import OpenStore, StoreContract
from kombu_core.virtual.store import Counts
from kombu_sqlalchemy.store import SQLAlchemyStore
from plugins.kombu_sqlalchemy.tests.steps import (
    claim,
    empty,
    give_back,
    overwrite,
    put,
    rows,
    settle,
    words,
)

PREFIX = f"t{secrets.token_hex(4)}_"


class TestSQLAlchemyStore(StoreContract):
    """On each server the same tables for all tests: to make them takes longer than a test does."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"prefix": PREFIX, "create_tables": True}

    @pytest.fixture
    def open_store(self, open_store: Callable[..., SQLAlchemyStore]) -> OpenStore:
        first = [open_store()]
        empty(*first)
        return lambda: first.pop() if first else open_store()

    @pytest.fixture
    def store_class(self) -> type:
        return SQLAlchemyStore


class TestRows:
    def test_a_lease_that_nobody_reaped_is_renewed(self, me: SQLAlchemyStore) -> None:
        put(me, "a")
        (item,) = claim(me)
        me.begin("me", 0.01)
        time.sleep(0.02)
        assert me.renew("me", 60)
        assert not settle(me, acks=[item.claim]).lost
        assert me.count("q") == Counts(0, 0, 0)

    def test_no_id_is_used_twice(self, open_store: Callable[..., SQLAlchemyStore]) -> None:
        """Or the end of one message's transaction would give another message back."""
        store = open_store(synchronous="NORMAL")  # On SQLite faster than its clock ticks.
        store.begin("me", 60)
        ids = []
        for _ in range(200):
            put(store, "a")
            (item,) = claim(store)
            settle(store, acks=[item.claim])
            ids.append(item.claim.id)
        assert len(set(ids)) == 200
        assert sorted(ids, key=int) == ids

    def test_messages_that_another_one_makes_ready_hold_up_nobody(
        self, me: SQLAlchemyStore, backend: str
    ) -> None:
        if backend == "sqlite":
            pytest.skip("one transaction writes at a time")
        put(me, "due", delay=0.01)
        put(me, "ready")
        time.sleep(0.02)
        lock = "SELECT id FROM {messages} WHERE queue = 'q' AND state = 1 FOR UPDATE"

        def promoting(connection: Connection) -> None:
            assert len(me.queries.rows(connection, lock)) == 1
            assert words(claim(me)) == ["ready"]

        me.database.transact(promoting)
        assert words(claim(me)) == ["due"]

    def test_nothing_is_left_of_what_was_settled(self, me: SQLAlchemyStore) -> None:
        put(me, *"abc", ttl=60)
        give_back(me, claim(me))
        settle(me, acks=[item.claim for item in claim(me)])
        me.end("me")
        assert (rows(me), rows(me, "sessions")) == (0, 0)

    def test_garbage_is_malformed_and_settles(self, me: SQLAlchemyStore) -> None:
        put(me, *"abcd", "good")
        garbage = iter([b"", b"K1", b"K1\x00\x00\x00\x02{]", b"\xff" * 99])
        ids = [item.claim.id for item in claim(me)]
        for id_ in ids[:4]:
            overwrite(me, int(id_), next(garbage))
        me.end("me")
        me.begin("me", 60)
        claimed = claim(me)
        assert [type(item.content) for item in claimed] == [Malformed] * 4 + [Envelope]
        assert not settle(me, acks=[item.claim for item in claimed]).lost
        assert me.count("q") == Counts(0, 0, 0)
