"""Length limits: what a full queue pushes out, and what it refuses."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import PreconditionFailedError, PublishRejectedError
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    Names,
    declare_bound,
    envelope,
    fetch,
    publish,
    ready,
    take,
)
from kombu_core.transport import Channel, Publication


class LimitContract(ContractFixtures):
    """x-max-length, x-max-length-bytes and x-overflow."""

    @requires("max_length_bytes", "priorities")
    def test_a_batch_is_limited_as_if_each_came_by_itself(
        self, channel: Channel, name: Names
    ) -> None:
        arguments = {"x-max-length-bytes": 9, "x-max-priority": 5}
        channel.queue_declare(queue := name(), arguments=arguments)
        bodies = (("x" * 5, 0), ("y" * 10, 0), ("z" * 5, 2))
        channel.basic_publish_batch(
            [Publication(envelope("", queue, body, priority=rank)) for body, rank in bodies]
        )
        assert take(channel, queue, 1) == ["z" * 5]

    @requires("max_length")
    def test_a_full_queue_pushes_out_its_oldest(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-length": 3})
        publish(channel, "", queue, *"12345")
        assert ready(channel, queue) == 3
        assert take(channel, queue, 3) == ["3", "4", "5"]

    @requires("max_length")
    def test_the_limit_counts_ready_messages_only(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-length": 2})
        publish(channel, "", queue, "1", "2")
        held = fetch(channel, queue)
        publish(channel, "", queue, "3")
        assert ready(channel, queue) == 2
        held.ack()
        assert take(channel, queue, 2) == ["2", "3"]

    @requires("max_length_bytes")
    def test_a_limit_in_bytes_pushes_out_the_oldest(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-length-bytes": 25})
        publish(channel, "", queue, "1" * 10, "2" * 10)
        assert ready(channel, queue) == 2
        publish(channel, "", queue, "3" * 10)
        assert take(channel, queue, 2) == ["2" * 10, "3" * 10]

    @requires("max_length")
    def test_a_queue_of_length_zero_keeps_nothing(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-length": 0})
        publish(channel, "", queue, "1")
        assert take(channel, queue, 0) == []

    @requires("max_length")
    def test_a_full_queue_may_refuse_instead(self, channel: Channel, name: Names) -> None:
        arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
        channel.queue_declare(queue := name(), arguments=arguments)
        publish(channel, "", queue, "1", "2")
        with pytest.raises(PublishRejectedError):
            publish(channel, "", queue, "3")
        assert channel.is_open
        assert fetch(channel, queue, no_ack=True).body == b"1"
        publish(channel, "", queue, "4")
        assert take(channel, queue, 2) == ["2", "4"]

    @requires("max_length")
    def test_a_refusal_is_that_of_one_queue(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        full = declare_bound(channel, name(), exchange, arguments=arguments)
        free = declare_bound(channel, name(), exchange)
        publish(channel, exchange, "", "1")
        with pytest.raises(PublishRejectedError):
            publish(channel, exchange, "", "2")
        assert take(channel, full, 1) == ["1"]
        assert take(channel, free, 2) == ["1", "2"]

    @requires("max_length", "dead_letters")
    def test_what_is_refused_can_go_to_the_dead_letters(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(dead := name("dead"))
        arguments = {
            "x-max-length": 1,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
        }
        channel.queue_declare(queue := name(), arguments=arguments)
        publish(channel, "", queue, "1")
        with pytest.raises(PublishRejectedError):
            publish(channel, "", queue, "2")
        message = fetch(channel, dead)
        assert message.body == b"2"
        assert message.headers["x-death"][0]["reason"] == "maxlen"
        assert take(channel, queue, 1) == ["1"]

    @requires("max_length", "priorities")
    def test_the_head_is_pushed_out_even_if_its_priority_is_the_highest(
        self, channel: Channel, name: Names
    ) -> None:
        # RabbitMQ, "Priority Queue Support": the head is what would be delivered next.
        arguments = {"x-max-length": 2, "x-max-priority": 5}
        channel.queue_declare(queue := name(), arguments=arguments)
        for body, priority in (("a", 3), ("b", 1), ("c", 5)):
            publish(channel, "", queue, body, priority=priority)
        assert take(channel, queue, 2) == ["a", "b"]

    @requires("max_length")
    @pytest.mark.parametrize(
        "arguments",
        [
            {"x-max-length": -1},
            {"x-max-length": "many"},
            pytest.param({"x-max-length-bytes": -1}, marks=requires("max_length_bytes")),
            {"x-overflow": "explode"},
        ],
    )
    def test_a_limit_that_makes_no_sense_is_refused(
        self, channel: Channel, name: Names, arguments: dict[str, object]
    ) -> None:
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(name(), arguments=arguments)
