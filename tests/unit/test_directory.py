"""The cached topology: it is never behind what was declared before a publish began, by whomever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kombu_core.exceptions import NotFoundError, UnsupportedError
from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.message import Envelope
from kombu_core.virtual import directory as directory_module
from kombu_core.virtual.declarations import Declarations
from kombu_core.virtual.directory import Changes, Directory, Route
from kombu_core.virtual.routing import EXCHANGE_TYPES, Destination
from kombu_core.virtual.store import Batch, Conflict, Document, Put
from kombu_core.virtual.topology import (
    LOG_LENGTH,
    ExchangeRecord,
    QueueRecord,
    dump,
    queue_key,
)


class CountingStore(MemoryStore):
    """Counts what is read."""

    def __init__(self, host: VirtualHost) -> None:
        super().__init__(host)
        self.reads: list[str] = []
        self.scans: list[str] = []

    def read(self, keys: Sequence[str]) -> list[Document]:
        self.reads += keys
        return super().read(keys)

    def scan(self, prefix: str) -> list[str]:
        self.scans.append(prefix)
        return super().scan(prefix)


class Client:
    """One process: its own directory on the shared host."""

    def __init__(self, host: VirtualHost, session: str = "s") -> None:
        self.store = CountingStore(host)
        self.directory = Directory(self.store, EXCHANGE_TYPES, "memory")
        self.declarations = Declarations(self.store, self.directory, session)

    def exchange(self, name: str, kind: str = "topic", **options: Any) -> None:
        self.declarations.declare_exchange(ExchangeRecord(name, kind, **options))

    def queue(self, name: str, **options: Any) -> None:
        key, record = queue_key(name), QueueRecord(name, **options)
        self.directory.change([key], lambda documents: Changes({key: dump(record)}))

    def bind(self, queue: str, key: str, exchange: str = "e") -> None:
        self.declarations.bind(exchange, Destination("queue", queue), key, None)

    def unbind(self, queue: str, key: str, exchange: str = "e") -> None:
        self.declarations.unbind(exchange, Destination("queue", queue), key, None)

    def publish(self, key: str, exchange: str = "e", **headers: Any) -> list[str]:
        """Publish as the broker does: route, commit, and again if something moved."""
        while True:
            route = self.directory.route(exchange, key, headers)
            puts = [Put(name, Envelope(b"", {}, {})) for name in route.names]
            try:
                self.store.commit(Batch(puts, expect=route.expect))
            except Conflict as conflict:
                self.directory.forget(conflict.keys)
            else:
                return sorted(route.names)


@pytest.fixture
def host() -> VirtualHost:
    return VirtualHost("x")


@pytest.fixture
def one(host: VirtualHost) -> Client:
    client = Client(host)
    client.exchange("e")
    for queue in "abc":
        client.queue(queue)
    client.bind("a", "k")
    return client


@pytest.fixture
def other(host: VirtualHost, one: Client) -> Client:
    """Return another client, which has routed before."""
    client = Client(host, "t")
    assert client.publish("k") == ["a"]
    return client


# -- what others change ----------------------------------------------------------------------


def test_a_publish_sees_the_binding_that_another_client_made(one: Client, other: Client) -> None:
    one.bind("b", "k")
    assert other.publish("k") == ["a", "b"]
    one.bind("c", "#")
    assert other.publish("k") == ["a", "b", "c"]
    one.unbind("b", "k")
    assert other.publish("k") == ["a", "c"]


def test_an_unroutable_publish_looks_again(one: Client, other: Client) -> None:
    assert other.publish("other") == []
    one.bind("b", "other")
    assert other.publish("other") == ["b"]
    assert other.publish("q", "") == []
    one.queue("q")
    assert other.publish("q", "") == ["q"]


def test_a_deleted_queue_is_not_published_to(one: Client, other: Client) -> None:
    one.bind("b", "k")
    assert other.publish("k") == ["a", "b"]
    one.declarations.delete_queue("a")
    assert other.publish("k") == ["b"]
    one.declarations.delete_queue("b")
    assert other.publish("k") == []
    assert one.store.count("a").ready == 0


def test_a_deleted_exchange_is_not_found(one: Client, other: Client) -> None:
    one.declarations.delete_exchange("e")
    with pytest.raises(NotFoundError):
        other.publish("k")
    with pytest.raises(NotFoundError):
        other.publish("nothing bound")


@pytest.mark.parametrize("bindings", [0, 1, LOG_LENGTH + 5])
def test_an_exchange_that_was_made_anew_has_none_of_its_old_bindings(
    one: Client, other: Client, bindings: int
) -> None:
    one.declarations.delete_exchange("e")
    one.exchange("e")
    for number in range(bindings):
        one.bind("b", f"x{number}")
    assert other.publish("k") == []
    one.bind("c", "k")
    assert other.publish("k") == ["c"]


def test_an_exchange_may_come_back_with_another_type(one: Client, other: Client) -> None:
    one.declarations.delete_exchange("e")
    one.exchange("e", "fanout")
    one.bind("c", "whatever")
    assert other.publish("k") == ["c"]


def test_a_change_of_a_second_exchange_is_seen_through_the_first(
    one: Client, other: Client
) -> None:
    one.exchange("inner", "direct")
    one.declarations.bind("e", Destination("exchange", "inner"), "k", None)
    assert other.publish("k") == ["a"]
    one.bind("b", "k", "inner")
    assert other.publish("k") == ["a", "b"]


def test_an_alternate_exchange_need_not_be_there_and_is_seen_when_it_is(host: VirtualHost) -> None:
    client, other = Client(host), Client(host)
    client.exchange("e", arguments={"alternate-exchange": "rest"})
    assert other.publish("k") == []
    client.exchange("rest", "fanout")
    client.queue("q")
    client.bind("q", "", "rest")
    assert other.publish("k") == ["q"]


# -- what that costs -------------------------------------------------------------------------


def test_a_known_route_costs_no_read(one: Client, other: Client) -> None:
    other.store.reads.clear()
    assert other.publish("k") == ["a"]
    assert other.store.reads == []
    route = other.directory.cached("e", "k")
    assert route is not None
    assert route.is_plain


def test_a_few_changes_are_read_from_the_log(one: Client, other: Client) -> None:
    for number in range(LOG_LENGTH):
        one.bind("b", f"x{number}")
    other.store.scans.clear()
    assert other.publish(f"x{LOG_LENGTH - 1}") == ["b"]
    assert other.publish("k") == ["a"]
    assert other.store.scans == []


def test_more_changes_than_the_log_remembers_are_found_by_a_scan(
    one: Client, other: Client
) -> None:
    one.unbind("a", "k")
    for number in range(LOG_LENGTH + 1):
        one.bind("b", f"x{number}")
    other.store.scans.clear()
    assert [other.publish(key) for key in ("x0", f"x{LOG_LENGTH}", "k")] == [["b"], ["b"], []]
    assert other.store.scans == ["binding/e/"]


def test_the_cache_of_routes_is_bounded(
    one: Client, other: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "MAX_CACHED_ROUTES", 10)
    one.bind("b", "#")
    for number in range(25):
        other.publish(str(number))
    cached = [number for number in range(25) if other.directory.cached("e", str(number))]
    assert 0 < len(cached) <= 10


def test_routes_by_headers_are_not_cached(host: VirtualHost) -> None:
    client = Client(host)
    client.exchange("h", "headers")
    client.queue("q")
    client.declarations.bind("h", Destination("queue", "q"), "", {"a": 1})
    assert client.publish("k", "h", a=1) == ["q"]
    assert client.publish("k", "h", a=2) == []
    assert client.directory.cached("h", "k") is None


# -- routes and records ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "is_plain"),
    [
        ({}, True),
        ({"x-expires": 1000}, True),
        ({"x-dead-letter-exchange": ""}, True),
        ({"x-max-priority": 3}, False),
        ({"x-message-ttl": 5}, False),
        ({"x-max-length": 5}, False),
    ],
)
def test_a_route_is_plain_if_its_queues_ask_for_nothing(
    arguments: dict[str, Any], is_plain: bool
) -> None:
    route = Route.to([QueueRecord("p"), QueueRecord("q", arguments=arguments)], {"k": 1})
    assert route.is_plain is is_plain
    assert route.names == ("p", "q")
    assert route.expect == (("k", 1),)
    assert not Route.to([], {}).is_plain
    assert not Route.to([QueueRecord("p")], {}, is_internal=True).is_plain


def test_an_exchange_of_an_unknown_type_can_be_deleted_but_not_used(
    host: VirtualHost, one: Client
) -> None:
    class Knows(Client):
        def __init__(self) -> None:
            super().__init__(host)
            types = {**EXCHANGE_TYPES, "x-odd": EXCHANGE_TYPES["fanout"]}
            self.directory = Directory(self.store, types, "memory")
            self.declarations = Declarations(self.store, self.directory, "k")

    knows = Knows()
    knows.exchange("odd", "x-odd", auto_delete=True)
    knows.bind("a", "", "odd")
    with pytest.raises(UnsupportedError, match="x-odd"):
        one.publish("k", "odd")
    assert one.directory.exchange("odd").type == "x-odd"
    one.declarations.delete_queue("a")
    with pytest.raises(NotFoundError):
        knows.publish("k", "odd")


def test_a_change_is_decided_again_if_somebody_was_faster(one: Client, other: Client) -> None:
    seen: list[bytes] = []

    def decide(documents: list[Document]) -> Changes:
        seen.append(documents[0].value)
        if len(seen) < 3:
            other.store.write({"k": str(len(seen)).encode()}, ())
        return Changes({"k": b"mine"})

    one.directory.change(["k"], decide)
    assert seen == [b"", b"1", b"2"]
    assert one.store.read(["k"])[0].value == b"mine"
    assert one.directory.change(["k"], lambda documents: None) is None
