"""The hooks that plugins implement: each is called, with its own arguments, and only if needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kombu_core import Connection, Consumer, Queue, hookspecs
from kombu_core.compression import Compressor
from kombu_core.exceptions import (
    BatchPublishError,
    ConnectionLostError,
    NotFoundError,
    PluginLoadError,
    UnroutableError,
)
from kombu_core.hookspecs import hookimpl
from kombu_core.memory import MemoryTransport
from kombu_core.message import Message
from kombu_core.plugins import Plugins
from kombu_core.serialization import Registry, Serializer
from kombu_core.virtual.routing import FanoutTable
from tests.unit.faulty import Faults

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("kombu_"))
OBSERVERS = [name for name in HOOKS if name.partition("_")[2].startswith(("conn", "mess"))]


def test_every_hook_has_a_test_that_is_named_for_it() -> None:
    tests = re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE)
    assert len(HOOKS) > 5
    assert [name for name in HOOKS if not any(name in test for test in tests)] == []


@pytest.mark.parametrize("name", OBSERVERS)
def test_an_observer_that_nobody_implements_is_none(name: str) -> None:
    assert Plugins().observer(name) is None


# -- what plugins add ------------------------------------------------------------------------


def test_kombu_transport_is_asked_for_each_scheme_once() -> None:
    asked: list[str] = []

    def serve(scheme: str) -> Any:
        asked.append(scheme)
        return MemoryTransport if scheme == "mine" else None

    plugins = Plugins()
    plugins.register(SimpleNamespace(kombu_transport=hookimpl(serve)), "mine")
    for _ in range(2):
        assert plugins.transport_class("mine") is MemoryTransport
    assert asked == ["mine"]


def test_kombu_exchange_types_are_merged() -> None:
    plugins = Plugins()
    for name in ("x-a", "x-b"):
        hook = hookimpl(lambda name=name: {name: FanoutTable})
        plugins.register(SimpleNamespace(kombu_exchange_types=hook), name)
    assert plugins.exchange_types() == {"x-a": FanoutTable, "x-b": FanoutTable}


def test_kombu_serializers_are_used_by_name_and_content_type(faults: Faults) -> None:
    shout = Serializer(str.upper, lambda raw: raw.decode().lower(), "x/shout")
    faults.observe(kombu_serializers=lambda: {"shout": shout})
    got: list[Any] = []
    with faults.open() as connection:
        producer = connection.Producer(serializer="shout", registry=faults.registry)
        producer.publish("hello", "q", declare=[Queue("q")])
        consumer = Consumer(
            connection,
            Queue("q"),
            callbacks=[lambda body, message: got.append((message.body, body))],
            accept=["shout"],
            registry=faults.registry,
        )
        with consumer:
            connection.drain_events(timeout=1)
    assert got == [(b"HELLO", "hello")]


def test_kombu_compressors_are_used_by_name_and_content_type(faults: Faults) -> None:
    mirror = Compressor(lambda body: body[::-1], lambda body, limit: body[::-1], "x/mirror")
    faults.observe(kombu_compressors=lambda: {"mirror": mirror})
    body, content_type = faults.registry.compress(b"abc", "mirror")
    assert (body, content_type) == (b"cba", "x/mirror")
    assert faults.registry.decompress(body, content_type) == b"abc"


def test_codecs_go_to_one_registry_only(faults: Faults) -> None:
    faults.observe(kombu_serializers=lambda: {"mine": Serializer(repr, None, "x/mine")})
    assert "mine" in faults.registry.names
    assert "mine" not in Registry().names


def test_a_plugin_whose_codecs_fail_is_refused() -> None:
    plugins = Plugins(registry=Registry())

    def fail() -> Any:
        raise ZeroDivisionError("broken")

    with pytest.raises(PluginLoadError, match="ZeroDivisionError: broken"):
        plugins.register(SimpleNamespace(kombu_serializers=hookimpl(fail)), "broken")
    plugins.register(SimpleNamespace(), "broken")


# -- what they observe -----------------------------------------------------------------------


class Log:
    """Keeps the arguments of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def hook(self, *names: str) -> Callable[..., None]:
        """Return an implementation that has exactly the arguments `names`."""
        names_given = ", ".join(names)
        made: dict[str, Any] = {"calls": self.calls}
        exec(f"def hook({names_given}): calls.append(({names_given},))", made)
        found: Callable[..., None] = made["hook"]
        return found


@pytest.fixture
def log() -> Log:
    return Log()


def test_kombu_connection_opened_tells_of_each_transport(faults: Faults, log: Log) -> None:
    faults.observe(kombu_connection_opened=log.hook("transport"))
    with faults.open() as connection:
        connection.connect()
        assert log.calls == [(connection.transport,)]
        connection.connect()
        connection.release()
        connection.connect()
        assert log.calls == [(transport,) for transport in faults.transports]
        assert len(log.calls) == 2


@pytest.mark.parametrize("found_by", ["draining", "publishing", "connecting"])
def test_kombu_connection_lost_tells_of_each_loss_once(
    faults: Faults, log: Log, found_by: str
) -> None:
    faults.observe(kombu_connection_lost=log.hook("transport", "error"))
    with faults.open() as connection:
        producer = connection.Producer(connection.channel())
        faults.transports[0].cut()
        assert log.calls == []
        if found_by == "draining":
            for _ in range(2):
                with pytest.raises(ConnectionLostError):
                    connection.drain_events(timeout=0)
        elif found_by == "publishing":
            producer.publish("x", retry=True, retry_policy={"interval_start": 0})
        connection.connect()
        ((transport, error),) = log.calls
        assert transport is faults.transports[0]
        assert isinstance(error, ConnectionLostError)
        faults.transports[1].cut()
        connection.connect()
        assert [call[0] for call in log.calls] == faults.transports[:2]


def test_kombu_message_publishing_comes_before_the_message_is_there(faults: Faults) -> None:
    seen: list[tuple[Any, bytes, int]] = []
    with faults.open() as connection:
        queue = Queue("q")(connection)
        queue.declare()

        def publishing(transport: Any, envelope: Any) -> None:
            count = queue.queue_declare(passive=True).message_count
            seen.append((transport, envelope.body, count))

        faults.observe(kombu_message_publishing=publishing)
        producer = connection.Producer()
        producer.publish("1", "q")
        producer.publish_many(["2", "3"], "q")
        transport = connection.transport
        assert seen == [(transport, b"1", 0), (transport, b"2", 1), (transport, b"3", 1)]


def test_kombu_message_published_tells_how_it_ended(faults: Faults, log: Log) -> None:
    faults.observe(kombu_message_published=log.hook("transport", "envelope", "error"))
    with faults.open() as connection:
        producer = connection.Producer()
        producer.publish("1", "q")
        for options, error in (
            ({"exchange": "nowhere"}, NotFoundError),
            ({"mandatory": True}, UnroutableError),
        ):
            with pytest.raises(error):
                producer.publish("x", "nowhere", **options)
    bodies = [(envelope.body, type(error)) for _, envelope, error in log.calls]
    assert bodies == [(b"1", type(None)), (b"x", NotFoundError), (b"x", UnroutableError)]
    assert {transport for transport, _, _ in log.calls} == {faults.transports[0]}


def test_kombu_message_published_tells_of_each_message_of_a_batch(faults: Faults, log: Log) -> None:
    faults.observe(kombu_message_published=log.hook("envelope", "error"))
    # The connection is lost while the second batch is sent.
    faults.observe(
        kombu_message_publishing=lambda envelope: (
            faults.transports[0].cut() if envelope.body == b"3" else None
        )
    )
    with faults.open() as connection:
        producer = connection.Producer()
        with pytest.raises(BatchPublishError), producer.batch():
            producer.publish("1", "q")
            producer.publish("2", "nowhere", mandatory=True)
        with pytest.raises(ConnectionLostError), producer.batch():
            producer.publish_many(["3", "4"], "q")
    assert [(envelope.body, type(error)) for envelope, error in log.calls] == [
        (b"1", type(None)),
        (b"2", UnroutableError),
        (b"3", ConnectionLostError),
        (b"4", ConnectionLostError),
    ]


def test_kombu_message_received_comes_before_the_callback(faults: Faults, log: Log) -> None:
    faults.observe(kombu_message_received=log.hook("transport", "message"))
    got: list[tuple[Message, int]] = []
    with faults.open() as connection:
        consumer = Consumer(
            connection,
            Queue("q"),
            on_message=lambda message: got.append((message, len(log.calls))),
        )
        with consumer:
            connection.Producer().publish("1", "q")
            connection.drain_events(timeout=1)
        ((message, before),) = got
        assert before == 1
        assert log.calls == [(connection.transport, message)]


@pytest.mark.parametrize("outcome", ["ack", "reject", "requeue"])
def test_kombu_message_settled_tells_the_outcome(faults: Faults, log: Log, outcome: str) -> None:
    faults.observe(kombu_message_settled=log.hook("transport", "message", "outcome"))
    got: list[Message] = []
    with faults.open() as connection:
        with Consumer(connection, Queue("q"), on_message=got.append):
            connection.Producer().publish("1", "q")
            connection.drain_events(timeout=1)
        assert log.calls == []
        getattr(got[0], outcome)()
        assert log.calls == [(connection.transport, got[0], outcome)]


def test_an_application_without_plugins_calls_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins()
    with Connection("memory://no-hooks", plugins=plugins) as connection:
        producer = connection.Producer()
        producer.publish("0", "q", declare=[Queue("q")])
        consumer = Consumer(connection, Queue("q"), on_message=Message.ack)
        for name in OBSERVERS:
            monkeypatch.setattr(plugins.hook, name, None)
        with consumer:
            producer.publish("1", "q")
            connection.drain_events(timeout=1)
