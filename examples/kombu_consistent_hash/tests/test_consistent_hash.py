"""The example plugin, used through the hook on the in-memory transport."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from kombu_core import Connection, Exchange, Queue
from kombu_core.exceptions import PreconditionFailedError, UnsupportedError
from kombu_core.plugins import Plugins

SOURCE = Path(__file__).parents[1] / "src" / "kombu_consistent_hash" / "__init__.py"
ORDERS = Exchange("orders", "x-consistent-hash", durable=True)


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The plugin's module, not installed: what an entry point would load."""
    spec = importlib.util.spec_from_file_location("kombu_consistent_hash", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def connection(plugin: ModuleType) -> Iterator[Connection]:
    plugins = Plugins()
    plugins.register(plugin)
    with Connection("memory://consistent-hash", plugins=plugins) as connection:
        yield connection


def declare(connection: Connection, **weights: int) -> None:
    for name, weight in weights.items():
        Queue(name, ORDERS, routing_key=str(weight))(connection).declare()


def owners(connection: Connection, names: tuple[str, ...], keys: range) -> dict[str, str]:
    """Publish one message for each key, and tell which queue got it."""
    producer = connection.Producer(exchange=ORDERS)
    for key in keys:
        producer.publish(str(key), str(key), mandatory=True)
    found = {}
    for name in names:
        while message := Queue(name)(connection).get(no_ack=True):
            found[message.body.decode()] = name
    return found


def test_each_key_has_one_owner_and_keeps_it(connection: Connection) -> None:
    declare(connection, a=1, b=1)
    first = owners(connection, ("a", "b"), range(200))
    assert len(first) == 200
    assert set(first.values()) == {"a", "b"}
    assert owners(connection, ("a", "b"), range(200)) == first


def test_weights_are_shares(connection: Connection) -> None:
    declare(connection, small=1, large=3)
    found = list(owners(connection, ("small", "large"), range(1000)).values())
    assert found.count("large") > 2 * found.count("small")


def test_only_the_keys_of_a_lost_queue_move(connection: Connection) -> None:
    declare(connection, a=1, b=1, c=1)
    before = owners(connection, ("a", "b", "c"), range(300))
    Queue("c")(connection).delete()
    after = owners(connection, ("a", "b"), range(300))
    assert {key: after[key] for key, owner in before.items() if owner != "c"} == {
        key: owner for key, owner in before.items() if owner != "c"
    }


def test_a_header_may_decide(connection: Connection) -> None:
    exchange = Exchange("by-header", "x-consistent-hash", arguments={"hash-header": "user"})
    for name in ("h1", "h2"):
        Queue(name, exchange, routing_key="1")(connection).declare()
    producer = connection.Producer(exchange=exchange)
    for number in range(20):
        producer.publish("x", str(number), headers={"user": "same"})
    counts = {
        Queue(name)(connection).queue_declare(passive=True).message_count for name in ("h1", "h2")
    }
    assert counts == {0, 20}


def test_a_weight_is_a_number(connection: Connection) -> None:
    with pytest.raises(PreconditionFailedError, match="weight"):
        declare(connection, q=-1)


def test_without_the_plugin_the_type_is_refused() -> None:
    with (
        Connection("memory://no-plugin", plugins=Plugins()) as connection,
        pytest.raises(UnsupportedError, match="x-consistent-hash"),
    ):
        ORDERS(connection).declare()
