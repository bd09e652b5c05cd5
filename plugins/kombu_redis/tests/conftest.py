"""Stores on a real Redis, each test in key names of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from kombu_core.testing.brokers import BrokerServer
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_redis.store import RedisStore
from kombu_redis.transport import RedisTransport


@pytest.fixture
def open_store(request: pytest.FixtureRequest, token: str) -> Iterator[Callable[..., RedisStore]]:
    """Opens stores that share their keys (of a URL, with options), and closes them at the end."""
    opened: list[RedisStore] = []

    def open_one(url: str = "", **options: Any) -> RedisStore:
        if not url:
            server: BrokerServer = request.getfixturevalue("redis_server")
            url = server.url
        options.setdefault("prefix", token)
        store = RedisTransport(TransportParameters(parse(url), options)).open_store()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., RedisStore]) -> RedisStore:
    """One store on the session's server."""
    return open_store()


@pytest.fixture
def me(store: RedisStore) -> RedisStore:
    """The store, with a session `me` that has begun."""
    store.begin("me", 60)
    return store


@pytest.fixture
def raw(redis_server: BrokerServer) -> Redis:
    """The session's server without anything between."""
    return Redis.from_url(redis_server.url)
