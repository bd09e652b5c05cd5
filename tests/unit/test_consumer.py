"""Consumers: which callback gets what, and which bodies are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kombu_core import Connection, Consumer, Queue
from kombu_core.exceptions import (
    ConfigurationError,
    ContentRefusedError,
    DecodeError,
    OperationTimeoutError,
    UnknownCodecError,
)
from kombu_core.message import Message
from kombu_core.serialization import Registry


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://test-consumer") as connection:
        yield connection


def publish(connection: Connection, *bodies: Any, to: str = "q", **options: Any) -> None:
    connection.Producer().publish_many(bodies, to, **options)


def drain(connection: Connection) -> int:
    """Handle all that is there; return how many events that was."""
    for count in range(1000):
        try:
            connection.drain_events(timeout=0)
        except OperationTimeoutError:
            return count
    raise AssertionError("it never ends")


def waiting(connection: Connection, queue: str = "q") -> int:
    return connection.default_channel.queue_declare(queue, passive=True).message_count


# -- callbacks -------------------------------------------------------------------------------


def test_all_callbacks_get_body_and_message_in_order(connection: Connection) -> None:
    seen: list[tuple[str, Any, Message]] = []
    consumer = connection.Consumer(Queue("q"), callbacks=[lambda *it: seen.append(("1", *it))])
    consumer.register_callback(lambda *it: seen.append(("2", *it)))
    with consumer:
        publish(connection, {"a": 1})
        assert drain(connection) == 1
    assert [(name, body) for name, body, _ in seen] == [("1", {"a": 1}), ("2", {"a": 1})]
    assert seen[0][2] is seen[1][2]


def test_a_consumer_without_callbacks_says_so(connection: Connection) -> None:
    with Consumer(connection, Queue("q")):
        publish(connection, "x")
        with pytest.raises(ConfigurationError, match="register_callback"):
            connection.drain_events(timeout=1)


def test_on_message_replaces_callbacks_and_decodes_nothing(connection: Connection) -> None:
    got: list[Message] = []
    unwanted: list[object] = []
    consumer = Consumer(
        connection, Queue("q"), callbacks=[lambda *it: unwanted.append(it)], on_message=got.append
    )
    with consumer:
        publish(connection, b"{", content_type="application/json")
        drain(connection)
    assert [message.body for message in got] == [b"{"]
    assert unwanted == []


def test_what_a_callback_raises_leaves_drain_events_and_the_message_unsettled(
    connection: Connection,
) -> None:
    def fail(body: Any, message: Message) -> None:
        raise ZeroDivisionError

    with Consumer(connection.channel(), Queue("q"), callbacks=[fail]) as consumer:
        publish(connection, "x")
        with pytest.raises(ZeroDivisionError):
            connection.drain_events(timeout=1)
        assert waiting(connection) == 0
        consumer.recover()
        assert waiting(connection) == 1


# -- decoding --------------------------------------------------------------------------------


def test_a_body_that_cannot_be_decoded_is_given_to_on_decode_error(connection: Connection) -> None:
    failed: list[tuple[Message, Exception]] = []
    consumer = Consumer(
        connection,
        Queue("q"),
        callbacks=[lambda *it: None],
        on_decode_error=lambda *it: failed.append(it),
    )
    with consumer:
        publish(connection, b"{", content_type="application/json")
        drain(connection)
    ((message, error),) = failed
    assert (message.body, type(error)) == (b"{", DecodeError)


def test_without_on_decode_error_the_error_leaves_drain_events(connection: Connection) -> None:
    with Consumer(connection, Queue("q"), callbacks=[lambda *it: None]):
        publish(connection, b"{", content_type="application/json")
        with pytest.raises(DecodeError):
            connection.drain_events(timeout=1)


@pytest.mark.parametrize(
    ("accept", "is_accepted"),
    [(None, True), (["json"], True), (["application/json"], True), (["text"], False), ([], False)],
)
def test_only_what_is_accepted_is_decoded(
    connection: Connection, accept: list[str] | None, is_accepted: bool
) -> None:
    got: list[Any] = []
    consumer = Consumer(
        connection, Queue("q"), callbacks=[lambda body, _: got.append(body)], accept=accept
    )
    with consumer:
        publish(connection, {"a": 1})
        if is_accepted:
            connection.drain_events(timeout=1)
        else:
            with pytest.raises(ContentRefusedError):
                connection.drain_events(timeout=1)
    assert got == ([{"a": 1}] if is_accepted else [])


def test_an_unknown_serializer_in_accept_is_refused_at_once(connection: Connection) -> None:
    with pytest.raises(UnknownCodecError, match="nonsense"):
        Consumer(connection, Queue("q"), accept=["nonsense"])
    with pytest.raises(TypeError):
        Consumer(connection, Queue("q"), accept="json")


def test_a_registry_of_its_own_decodes(connection: Connection) -> None:
    registry = Registry()
    registry.register("shout", str.upper, lambda raw: raw.decode().lower(), content_type="x/shout")
    got: list[Any] = []
    consumer = Consumer(
        connection, Queue("q"), callbacks=[lambda body, _: got.append(body)], registry=registry
    )
    with consumer:
        publish(connection, "HELLO", content_type="x/shout")
        drain(connection)
    assert got == ["hello"]


def test_a_connection_says_what_its_consumers_accept(token: str) -> None:
    queue = Queue("q")
    with Connection(f"memory://{token}", accept=["yaml", "text/plain"]) as connection:
        producer = connection.Producer(routing_key="q")

        def payload(accept: list[str] | None, serializer: str) -> Any:
            producer.publish([1], serializer=serializer, declare=[queue])
            message = queue(connection).get(no_ack=True, accept=accept)
            assert message is not None
            return message.payload

        assert payload(None, "yaml") == [1]
        assert payload(["json"], "json") == [1]
        for accept, serializer in ((None, "json"), (["json"], "yaml")):
            with pytest.raises(ContentRefusedError):
                payload(accept, serializer)
        clone = connection.clone()
        assert clone.accept == ["yaml", "text/plain"]
        for accept in (None, ["json"]):
            producer.publish({"n": 1}, serializer="json")
            with connection.SimpleQueue(queue, no_ack=True, accept=accept) as simple:
                message = simple.get(timeout=1)
            if accept is not None:
                assert message.payload == {"n": 1}
                continue
            with pytest.raises(ContentRefusedError):
                message.payload  # noqa: B018
