"""Retries with growing delays, and dead letters; and messages that are handled once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kombu_core import Connection, Message, Queue
from kombu_core.exceptions import ConfigurationError, MessageStateError
from kombu_core.idempotence import MemorySeen, idempotent
from kombu_core.patterns import eventloop
from kombu_core.retries import RetryingConsumer, RetryPolicy, attempts_of

FAST = RetryPolicy(max_retries=2, delay=0.001)


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        connection.connect()
        yield connection


def work(
    connection: Connection, queue: Queue, handler: Any, policy: RetryPolicy, count: int
) -> None:
    with RetryingConsumer(connection, queue, handler, policy):
        for _ in eventloop(connection, limit=count, timeout=10):
            pass


def test_delays_grow_to_their_limit() -> None:
    policy = RetryPolicy(max_retries=5, delay=1.0, factor=3.0, max_delay=10.0, jitter=0.5)
    assert [policy.delay_after(n, lambda: 0.0) for n in range(1, 7)] == [1, 3, 9, 10, 10, None]
    assert policy.delay_after(1, lambda: 1.0) == 0.5
    forever = RetryPolicy(max_retries=10_000_000, factor=10.0)
    assert forever.delay_after(5_000_000, lambda: 0.0) == forever.max_delay


@pytest.mark.parametrize(
    "wrong", [{"max_retries": -1}, {"delay": float("nan")}, {"factor": 0.5}, {"jitter": 2.0}]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy(**wrong)


def test_what_fails_comes_again_until_it_works(connection: Connection) -> None:
    queue = Queue("work")
    attempts: list[int] = []
    errors: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        attempts.append(attempts_of(message))
        errors.append(message.headers.get("x-last-error"))
        if len(attempts) < 3:
            raise ValueError("not yet")
        assert body == {"job": 1}
        assert message.headers["mine"] == "kept"
        assert message.headers["x-first-routing-key"] == "work"
        assert message.properties["message_id"] == "7"

    connection.Producer().publish(
        {"job": 1},
        "work",
        headers={"mine": "kept", "CC": ["elsewhere"]},
        declare=[queue],
        message_id="7",
        expiration=60,
    )
    work(connection, queue, handle, FAST, 3)
    assert attempts == [0, 1, 2]
    assert errors == [None, "ValueError: not yet", "ValueError: not yet"]
    assert queue(connection).get() is None


def test_the_last_failure_goes_to_the_dead_letters(connection: Connection) -> None:
    dead = Queue("dead")
    policy = RetryPolicy(max_retries=1, delay=0.001, dead_letters=dead)

    def fail(body: Any, message: Message) -> None:
        raise KeyError(body)

    connection.Producer().publish("x", "work", declare=[Queue("work")])
    work(connection, Queue("work"), fail, policy, 2)
    letter = dead(connection).get()
    assert letter is not None
    assert letter.payload == "x"
    assert attempts_of(letter) == 2
    assert letter.headers["x-last-error"] == "KeyError: 'x'"


def test_without_dead_letters_the_queues_own_are_used(connection: Connection) -> None:
    queue = Queue(
        "work",
        queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    )
    dead = Queue("dead")(connection)
    dead.declare()

    def fail(body: Any, message: Message) -> None:
        raise OSError

    connection.Producer().publish("x", "work", declare=[queue])
    policy = RetryPolicy(retry_on=(ValueError,))
    work(connection, queue, fail, policy, 1)
    letter = dead.get()
    assert letter is not None
    assert letter.headers["x-death"][0]["reason"] == "rejected"


def test_what_cannot_be_decoded_is_not_tried_again(connection: Connection) -> None:
    dead = Queue("dead")
    connection.Producer().publish(
        b"{", "work", content_type="application/json", declare=[Queue("work")]
    )
    policy = RetryPolicy(dead_letters=dead)
    work(connection, Queue("work"), lambda body, message: None, policy, 1)
    letter = dead(connection).get()
    assert letter is not None
    assert letter.body == b"{"


def test_a_handler_may_settle_by_itself(connection: Connection) -> None:
    def settle(body: Any, message: Message) -> None:
        message.reject()
        if body == "twice":
            message.ack()

    producer = connection.Producer(routing_key="work")
    producer.publish("once", declare=[Queue("work")])
    work(connection, Queue("work"), settle, FAST, 1)
    producer.publish("twice")
    with pytest.raises(MessageStateError):
        work(connection, Queue("work"), settle, FAST, 1)


def test_a_queue_needs_a_name(connection: Connection) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        RetryingConsumer(connection, Queue(), print)


def test_strange_counts_are_none(connection: Connection) -> None:
    queue = Queue("work")(connection)
    queue.declare()
    for strange in ("many", -3, None):
        connection.Producer().publish("x", "work", headers={"x-attempts": strange})
        message = queue.get()
        assert message is not None
        assert attempts_of(message) == 0


# -- once ------------------------------------------------------------------------------------


def test_a_message_is_handled_once(connection: Connection) -> None:
    handled: list[Any] = []
    duplicates: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        handled.append(body)
        if handled == ["a"]:
            raise ValueError("the first time does not count")
        message.ack()

    seen = MemorySeen()
    once = idempotent(seen)(handle)
    producer = connection.Producer(routing_key="work")
    for body, ident in (("a", "1"), ("a", "1"), ("b", "2"), ("a", "1"), ("c", None), ("c", None)):
        producer.publish(body, message_id=ident, declare=[Queue("work")])
    work(connection, Queue("work"), once, FAST, 7)
    assert handled == ["a", "a", "b", "c", "c"]
    assert len(seen) == 2
    assert Queue("work")(connection).queue_declare(passive=True).message_count == 0
    producer.publish("b", message_id="2")
    told = idempotent(seen, on_duplicate=lambda body, message: duplicates.append(body))(handle)
    work(connection, Queue("work"), told, FAST, 1)
    assert duplicates == ["b"]


def test_other_things_can_be_compared(connection: Connection) -> None:
    handled: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        handled.append(body)

    once = idempotent(MemorySeen(), identify=lambda message: message.payload["key"])(handle)
    for number in range(3):
        connection.Producer().publish({"key": "k", "n": number}, "work", declare=[Queue("work")])
    work(connection, Queue("work"), once, FAST, 3)
    assert handled == [{"key": "k", "n": 0}]


def test_the_store_of_ids_is_bounded() -> None:
    now = 0.0
    seen = MemorySeen(limit=3, ttl=10.0, clock=lambda: now)
    for ident in "abcda":
        seen.add(ident)
    assert [ident for ident in "abcd" if ident in seen] == ["a", "c", "d"]
    now = 9.0
    seen.add("c")
    now = 10.0
    assert [ident for ident in "abcd" if ident in seen] == ["c"]
    now = 19.0
    assert len(seen) == 0
    for wrong in ({"limit": 0}, {"ttl": 0.0}):
        with pytest.raises(ConfigurationError):
            MemorySeen(**wrong)
