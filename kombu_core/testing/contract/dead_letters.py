"""Dead letters: what is refused, expired or pushed out goes on, and says why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from kombu_core.exceptions import PreconditionFailedError
from kombu_core.message import Message
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    declare_bound,
    drain_until,
    envelope,
    fetch,
    fetch_many,
    publish,
    ready,
    take,
    until,
)
from kombu_core.transport import Channel, Publication


def _death(message: Message, position: int = 0) -> dict[str, Any]:
    entry = message.headers["x-death"][position]
    assert isinstance(entry, dict)
    return entry


class DeadLetterContract(ContractFixtures):
    """x-dead-letter-exchange, x-dead-letter-routing-key and the header x-death."""

    @requires("dead_letters")
    def test_a_rejected_message_goes_to_the_dead_letter_exchange(
        self, channel: Channel, name: Names
    ) -> None:
        exchange, queue, dead = _with_dead_letters(channel, name)
        publish(channel, exchange, "k", "bad", headers={"own": 1}, message_id="m1")
        fetch(channel, queue).reject()
        message = fetch(channel, dead)
        assert message.body == b"bad"
        assert message.headers["own"] == 1
        assert message.properties.get("message_id") == "m1"
        assert message.envelope.routing_key == "k"
        assert not message.redelivered
        assert ready(channel, queue) == 0

    @requires("dead_letters")
    def test_the_header_tells_the_death(self, channel: Channel, name: Names) -> None:
        exchange, queue, dead = _with_dead_letters(channel, name)
        publish(channel, exchange, "k", "bad")
        fetch(channel, queue).reject()
        message = fetch(channel, dead)
        death = _death(message)
        assert isinstance(death.pop("time"), datetime)
        assert death == {
            "count": 1,
            "reason": "rejected",
            "queue": queue,
            "exchange": exchange,
            "routing-keys": ["k"],
        }
        assert message.headers["x-first-death-queue"] == queue
        assert message.headers["x-first-death-exchange"] == exchange
        assert message.headers["x-first-death-reason"] == "rejected"

    @requires("dead_letters")
    def test_nack_sends_all_up_to_it(self, channel: Channel, name: Names) -> None:
        _, queue, dead = _with_dead_letters(channel, name)
        publish(channel, "", queue, "1", "2", "3")
        messages = fetch_many(channel, queue, 3)
        channel.basic_nack(messages[1].delivery_tag, multiple=True, requeue=False)
        messages[2].requeue()
        until(lambda: ready(channel, dead) == 2, "both")
        assert take(channel, dead, 2) == ["1", "2"]
        assert take(channel, queue, 1) == ["3"]

    @requires("dead_letters")
    def test_a_requeued_or_acknowledged_message_is_not_dead(
        self, channel: Channel, name: Names
    ) -> None:
        _, queue, dead = _with_dead_letters(channel, name)
        publish(channel, "", queue, "1")
        fetch(channel, queue).requeue()
        fetch(channel, queue).ack()
        assert take(channel, dead, 0) == []

    @requires("dead_letters", "message_ttl")
    def test_an_expired_message_goes_there_by_itself(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        exchange, queue, dead = _with_dead_letters(channel, name, {"x-message-ttl": 50})
        inbox = Inbox()
        channel.basic_consume(dead, inbox)
        publish(channel, exchange, "k", "old")
        drain_until(connection, lambda: len(inbox) == 1)
        death = _death(inbox.messages[0])
        assert (death["reason"], death["queue"], death["count"]) == ("expired", queue, 1)
        assert "original-expiration" not in death

    @requires("dead_letters", "message_ttl")
    def test_a_messages_expiration_is_moved_into_the_header(
        self, channel: Channel, name: Names
    ) -> None:
        exchange, _, dead = _with_dead_letters(channel, name)
        publish(channel, exchange, "k", "old", expiration="50")
        message = fetch(channel, dead)
        assert "expiration" not in message.properties
        assert _death(message)["original-expiration"] == "50"

    @requires("dead_letters", "message_ttl")
    def test_expired_messages_keep_their_order(self, channel: Channel, name: Names) -> None:
        _, queue, dead = _with_dead_letters(channel, name, {"x-message-ttl": 50})
        bodies = [str(number) for number in range(10)]
        publish(channel, "", queue, *bodies)
        until(lambda: ready(channel, dead) == 10, "all of them")
        assert take(channel, dead, 10) == bodies

    @requires("dead_letters")
    def test_a_key_of_its_own_replaces_the_old_one(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(dead := name("dead"))
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        channel.queue_declare(queue := name(), arguments=arguments)
        publish(channel, "", queue, "bad")
        fetch(channel, queue).reject()
        message = fetch(channel, dead)
        assert message.envelope.exchange == ""
        assert message.envelope.routing_key == dead
        assert _death(message)["routing-keys"] == [queue]

    @requires("dead_letters")
    def test_every_queue_of_the_dead_letter_exchange_gets_a_copy(
        self, channel: Channel, name: Names
    ) -> None:
        _, queue, dead = _with_dead_letters(channel, name)
        more = declare_bound(channel, name(), dead.removesuffix("-queue"), ["#"])
        publish(channel, "", queue, "bad")
        fetch(channel, queue).reject()
        assert [fetch(channel, where).body for where in (dead, more)] == [b"bad", b"bad"]

    @requires("dead_letters")
    def test_a_missing_dead_letter_exchange_drops_the_message(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-dead-letter-exchange": name("none")})
        publish(channel, "", queue, "bad")
        fetch(channel, queue).reject()
        assert channel.is_open
        assert ready(channel, queue) == 0

    @requires("dead_letters")
    @pytest.mark.parametrize(
        "arguments", [{"x-dead-letter-exchange": 1}, {"x-dead-letter-routing-key": "no exchange"}]
    )
    def test_arguments_that_make_no_sense_are_refused(
        self, channel: Channel, name: Names, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(name(), arguments=arguments)

    @requires("dead_letters")
    def test_each_more_death_in_a_queue_is_counted(self, channel: Channel, name: Names) -> None:
        first, second = name(), name()
        for queue, following in ((first, second), (second, first)):
            arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": following}
            channel.queue_declare(queue, arguments=arguments)
        publish(channel, "", first, "around")
        for queue in (first, second, first):
            fetch(channel, queue).reject()
        message = fetch(channel, second)
        deaths = [(death["queue"], death["count"]) for death in message.headers["x-death"]]
        assert deaths == [(first, 2), (second, 1)]
        assert message.headers["x-first-death-queue"] == first

    @requires("dead_letters", "message_ttl")
    def test_a_cycle_without_a_rejection_ends(self, channel: Channel, name: Names) -> None:
        first, second = name(), name()
        # In the second queue it stays for long enough to be seen there by a busy machine, too.
        for queue, following, ttl in ((first, second, 20), (second, first, 400)):
            arguments = {
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": following,
                "x-message-ttl": ttl,
            }
            channel.queue_declare(queue, arguments=arguments)
        publish(channel, "", first, "around")
        until(lambda: ready(channel, second) == 1, "its first death")
        until(lambda: ready(channel, first) + ready(channel, second) == 0, "its end")
        assert take(channel, first, 0) == take(channel, second, 0) == []

    @requires("dead_letters", "message_ttl")
    def test_a_cycle_with_a_rejection_goes_on(self, channel: Channel, name: Names) -> None:
        work, later = name("work"), name("later")
        channel.queue_declare(
            work, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": later}
        )
        channel.queue_declare(
            later,
            arguments={
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": work,
                "x-message-ttl": 50,
            },
        )
        publish(channel, "", work, "try again")
        for attempt in range(3):
            message = fetch(channel, work)
            deaths = message.headers.get("x-death", [])
            assert [death["count"] for death in deaths] == [attempt] * 2 * bool(attempt)
            message.reject()

    @requires("dead_letters", "max_length")
    def test_what_a_full_queue_pushes_out_goes_there(self, channel: Channel, name: Names) -> None:
        exchange, queue, dead = _with_dead_letters(channel, name, {"x-max-length": 2})
        for body in "1234":
            publish(channel, exchange, "k", body)
        messages = fetch_many(channel, dead, 2)
        assert [message.body for message in messages] == [b"1", b"2"]
        assert _death(messages[0])["reason"] == "maxlen"
        assert take(channel, queue, 2) == ["3", "4"]

    @requires("dead_letters", "max_length", "priorities")
    def test_what_a_batch_pushes_out_dies_in_the_order_of_the_batch(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(dead := name())
        channel.queue_declare(
            queue := name(),
            arguments={
                "x-max-length": 1,
                "x-max-priority": 5,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead,
            },
        )
        channel.basic_publish_batch(
            [
                Publication(envelope("", queue, str(number), priority=priority))
                for number, priority in enumerate((0, 0, 5))
            ]
        )
        assert [fetch(channel, dead).body for _ in range(2)] == [b"0", b"2"]
        assert take(channel, queue, 1) == ["1"]

    @requires("dead_letters")
    @pytest.mark.parametrize("end", ["purge", "delete"])
    def test_purged_and_deleted_messages_are_just_gone(
        self, channel: Channel, name: Names, end: str
    ) -> None:
        _, queue, dead = _with_dead_letters(channel, name)
        publish(channel, "", queue, "1", "2")
        if end == "purge":
            channel.queue_purge(queue)
        else:
            channel.queue_delete(queue)
        assert take(channel, dead, 0) == []

    @requires("delivery_limit", "dead_letters")
    def test_a_message_delivered_too_often_is_dead(self, channel: Channel, name: Names) -> None:
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2}
        _, queue, dead = _with_dead_letters(channel, name, arguments)
        publish(channel, "", queue, "poison")
        for count in range(3):
            message = fetch(channel, queue)
            assert message.redelivered is bool(count)
            assert message.headers.get("x-delivery-count", 0) == count
            message.requeue()
        assert _death(fetch(channel, dead))["reason"] == "delivery_limit"
        assert ready(channel, queue) == 0


def _with_dead_letters(
    channel: Channel, name: Names, arguments: dict[str, Any] | None = None
) -> tuple[str, str, str]:
    """Declare an exchange, a queue bound by `k`, and the queue of its dead letters."""
    exchange, queue = name("x"), name()
    grave = name("dead")
    dead = f"{grave}-queue"
    name.made.append(dead)
    channel.exchange_declare(exchange, "direct")
    channel.exchange_declare(grave, "topic")
    declare_bound(channel, dead, grave, ["#"])
    channel.queue_declare(
        queue,
        durable="x-queue-type" in (arguments or {}),
        arguments={"x-dead-letter-exchange": grave, **(arguments or {})},
    )
    channel.queue_bind(queue, exchange, "k")
    return exchange, queue, dead
