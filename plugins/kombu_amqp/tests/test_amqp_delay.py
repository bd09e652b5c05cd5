"""The ladder of queues that holds delayed messages."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from kombu_amqp.delay import LEVELS, without_traces
from kombu_core.exceptions import ConfigurationError, NotFoundError, UnsupportedError
from kombu_core.message import PERSISTENT
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.harness import (
    Inbox,
    declare_bound,
    drain_until,
    envelope,
    fetch,
    fetch_many,
    publish,
    ready,
    until,
)
from kombu_core.transport import Publication
from plugins.kombu_amqp.tests.conftest import Open

WEEK = 7 * 24 * 3600.0


def test_a_delayed_message_arrives_as_it_was_published(open_connection: Open, queue: str) -> None:
    channel = open_connection().channel()
    sent = envelope("", queue, "later", {"h": [1, None]}, message_id="m", delivery_mode=PERSISTENT)
    channel.basic_publish(sent, delay=0.013)
    assert fetch(channel, queue).envelope == sent


@pytest.mark.parametrize("target", ["exchange", "headers", "quorum"])
def test_a_delay_ends_where_the_message_was_meant_to_go(
    open_connection: Open, token: str, target: str
) -> None:
    channel = open_connection().channel()
    kind = "headers" if target == "headers" else "topic"
    channel.exchange_declare(token, kind, durable=True)
    channel.queue_declare(token, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(token, token, "a.#", {"x-match": "all", "n": 1})
    try:
        sent = envelope(token, "a.b", "later", {"n": 1}, delivery_mode=PERSISTENT)
        channel.basic_publish(sent, delay=0.1)
        found = fetch(channel, token)
        assert found.headers.pop("x-delivery-count") == 0  # a quorum queue's
        assert found.envelope._replace(headers=found.headers) == sent
    finally:
        channel.queue_delete(token)
        channel.exchange_delete(token)


def test_all_delays_share_the_ladder(open_connection: Open, queue: str) -> None:
    channel = open_connection().channel()
    delays = [number / 100 for number in range(1, 60)]
    channel.basic_publish_batch(
        [Publication(envelope("", queue, str(delay)), False, delay) for delay in reversed(delays)]
    )
    begin = time.monotonic()
    until(lambda: ready(channel, queue) == len(delays))
    assert time.monotonic() - begin < 2
    bodies = [float(message.body) for message in fetch_many(channel, queue, len(delays))]
    assert sorted(bodies) == delays
    # Each step of the ladder is a timer of its own: of two moments that are near each other, either
    # may come first on a busy server.
    assert all(later > earlier - 0.05 for earlier, later in pairwise(bodies))


@pytest.mark.parametrize("delay", [0.001, 0.5, 3600.0, WEEK, 7 * WEEK])
def test_a_message_waits_at_the_highest_bit(
    open_connection: Open, queue: str, delay: float
) -> None:
    channel = open_connection().channel()
    channel.basic_publish(envelope("", queue, "x"), delay=0.001)
    fetch(channel, queue).ack()
    level = f"kombu.delay.{int(delay * 1000).bit_length() - 1}"
    channel.queue_purge(level)
    channel.basic_publish(envelope("", queue, "x"), delay=delay)
    if delay < 1:
        assert fetch(channel, queue).body == b"x"
    else:
        assert ready(channel, level) == 1
        assert channel.queue_purge(level) == 1


def test_a_second_delay_after_the_first(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    channel = connection.channel()
    inbox = Inbox(ack=True)
    channel.basic_consume(queue, inbox)
    channel.basic_publish(envelope("", queue, "again", {"n": 1}), delay=0.02)
    for round_ in range(1, 4):
        drain_until(connection, lambda round_=round_: len(inbox) == round_)  # type: ignore[misc]
        # As an application does that retries: with the headers that came.
        channel.basic_publish(inbox.messages[-1].envelope, delay=0.02)
    assert dict(inbox.messages[-1].headers) == {"n": 1}


def test_a_dead_letter_after_a_delay_tells_its_own_story(open_connection: Open, token: str) -> None:
    channel = open_connection().channel()
    dead, live = f"{token}-dead", f"{token}-live"
    channel.queue_declare(dead)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel.queue_declare(live, arguments=arguments)
    channel.basic_publish(envelope("", live, "x"), delay=0.01)
    fetch(channel, live).reject()
    headers = fetch(channel, dead, no_ack=True).headers
    assert [(death["queue"], death["reason"]) for death in headers["x-death"]] == [
        (live, "rejected")
    ]
    assert headers["x-first-death-queue"] == live
    for name in (dead, live):
        channel.queue_delete(name)


def test_a_delay_to_no_exchange_is_not_found(open_connection: Open, token: str) -> None:
    channel = open_connection().channel()
    with pytest.raises(NotFoundError):
        channel.basic_publish(envelope(token, "k"), delay=1)


def test_what_cannot_be_held_is_refused(open_connection: Open, queue: str) -> None:
    channel = open_connection().channel()
    with pytest.raises(ConfigurationError, match="longer"):
        channel.basic_publish(envelope("", queue), delay=8 * WEEK)
    with pytest.raises(UnsupportedError, match="expiration"):
        channel.basic_publish(envelope("", queue, expiration="1000"), delay=1)
    publish(channel, "", queue, "still open")


def test_a_quorum_ladder(open_connection: Open, queue: str) -> None:
    channel = open_connection(delay_queue_type="quorum").channel()
    channel.basic_publish(envelope("", queue, "x", delivery_mode=PERSISTENT), delay=0.05)
    assert fetch(channel, queue).body == b"x"
    for level in range(LEVELS):
        channel.queue_delete(f"kombu.delay.quorum.{level}")
    channel.queue_delete("kombu.delay.quorum.to.")


def test_a_delay_survives_a_restart(
    open_connection: Open, queue: str, rabbitmq_server: BrokerServer
) -> None:
    if not rabbitmq_server.is_private:
        pytest.skip("the broker is not ours to restart")
    message = envelope("", queue, "later", delivery_mode=PERSISTENT)
    channel = open_connection().channel()
    channel.basic_publish(message, delay=2)
    rabbitmq_server.restart()
    found = fetch(open_connection().channel(), queue)
    assert found.envelope == message


def test_two_bindings_are_one_copy_each(open_connection: Open, token: str) -> None:
    channel = open_connection().channel()
    channel.exchange_declare(token, "fanout")
    queues = [declare_bound(channel, f"{token}-{number}", token) for number in range(2)]
    channel.basic_publish(envelope(token, "", "x"), delay=0.02)
    for name in queues:
        assert fetch(channel, name).body == b"x"
        assert channel.queue_delete(name) == 0
    channel.exchange_delete(token)


def test_traces_of_others_are_left_alone() -> None:
    deaths = [{"queue": "work", "reason": "rejected"}]
    headers: dict[str, Any] = {"x-death": deaths, "x-first-death-queue": "work", "n": 1}
    assert without_traces(headers) == headers
