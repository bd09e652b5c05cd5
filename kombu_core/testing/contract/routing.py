"""Routing by direct, fanout and topic exchanges: who gets a copy, and that it is one."""

from __future__ import annotations

import random
from typing import Final

import pytest

from kombu_core.testing.contract.fixtures import Connect, ContractFixtures
from kombu_core.testing.harness import (
    Inbox,
    Names,
    declare_bound,
    drain_until,
    fetch,
    publish,
    take,
)
from kombu_core.transport import Channel

#: (pattern, routing key, whether it matches): AMQP 0-9-1, section 3.1.3.3, read with RabbitMQ.
TOPIC_TRUTHS: Final = [
    ("a.b", "a.b", True),
    ("a.b", "a", False),
    ("a.b", "a.b.c", False),
    ("a.b", "a.b\n", False),
    ("a.b", "axb", False),
    ("*", "a", True),
    ("*", "", False),
    ("*", "a.b", False),
    ("a.*", "a.b", True),
    ("a.*", "a", False),
    ("a.*", "a.", True),
    ("a.*", "a.b.c", False),
    ("*.b", "a.b", True),
    ("*.b", ".b", True),
    ("*.b", "b", False),
    ("*.b", "a.a.b", False),
    ("a.*.c", "a.b.c", True),
    ("a.*.c", "a..c", True),
    ("a.*.c", "a.c", False),
    ("a.*.c", "a.b.b.c", False),
    ("*.*", "a.b", True),
    ("*.*", "a", False),
    ("#", "", True),
    ("#", "a", True),
    ("#", "a.b.c", True),
    ("a.#", "a", True),
    ("a.#", "a.b", True),
    ("a.#", "a.b.c", True),
    ("a.#", "ab", False),
    ("a.#", "b.a", False),
    ("#.b", "b", True),
    ("#.b", "a.b", True),
    ("#.b", "a.a.b", True),
    ("#.b", "ab", False),
    ("a.#.b", "a.b", True),
    ("a.#.b", "a.x.b", True),
    ("a.#.b", "a.x.y.b", True),
    ("a.#.b", "a", False),
    ("a.#.b", "a.b.c", False),
    ("#.a.#", "a", True),
    ("#.a.#", "x.a.y", True),
    ("#.a.#", "x.y", False),
    ("#.#", "", True),
    ("#.#", "a", True),
    ("*.#", "a", True),
    ("*.#", "a.b.c", True),
    ("*.#", "", False),
    ("#.*", "a", True),
    ("#.*", "a.b", True),
    ("*.#.*", "a", False),
    ("*.#.*", "a.b", True),
    ("a*", "ab", False),
    ("a*", "a*", True),
    ("a#", "ab", False),
    ("a+b", "a+b", True),
    ("a+b", "aab", False),
    ("", "", True),
    ("", "a", False),
]


class RoutingContract(ContractFixtures):
    """direct, fanout and topic."""

    def test_direct_compares_the_whole_key(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        declare_bound(channel, queue := name(), exchange, ["a.b", "*", ""])
        for key in ("a.b", "a", "a.b.c", "A.B", "*", "#", ""):
            publish(channel, exchange, key, key)
        assert take(channel, queue, 3) == ["a.b", "*", ""]

    def test_direct_gives_each_bound_queue_a_copy(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        queues = [declare_bound(channel, name(), exchange, ["k"]) for _ in range(3)]
        publish(channel, exchange, "k", "to all three")
        for queue in queues:
            assert take(channel, queue, 1) == ["to all three"]

    def test_fanout_ignores_the_key(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        queues = [declare_bound(channel, name(), exchange, [key]) for key in ("", "k")]
        publish(channel, exchange, "", "1")
        publish(channel, exchange, "something else", "2")
        for queue in queues:
            assert take(channel, queue, 2) == ["1", "2"]

    def test_fanout_is_kept_for_a_queue_whose_consumer_is_away(
        self, channel: Channel, connect: Connect, name: Names
    ) -> None:
        exchange, queue = name("x"), name()
        channel.exchange_declare(exchange, "fanout", durable=True)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, exchange)
        consumer = connect()
        inbox = Inbox(ack=True)
        consumer.channel().basic_consume(queue, inbox)
        publish(channel, exchange, "", "1")
        drain_until(consumer, lambda: len(inbox) == 1)
        consumer.release()
        publish(channel, exchange, "", "2", "3")
        assert take(channel, queue, 2) == ["2", "3"]

    @pytest.mark.parametrize("type_", ["direct", "fanout", "topic"])
    def test_a_queue_gets_one_copy_however_many_bindings_match(
        self, channel: Channel, name: Names, type_: str
    ) -> None:
        channel.exchange_declare(exchange := name("x"), type_)
        keys = ["k", "k.#", "#", "*", "k"]
        declare_bound(channel, queue := name(), exchange, keys)
        publish(channel, exchange, "k", "one")
        assert take(channel, queue, 1) == ["one"]

    def test_copies_have_tags_of_their_own(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        first, second = (declare_bound(channel, name(), exchange) for _ in range(2))
        publish(channel, exchange, "", "copied")
        one, two = fetch(channel, first), fetch(channel, second)
        assert one.delivery_tag != two.delivery_tag
        one.ack()
        two.requeue()
        assert take(channel, first, 0) == []
        assert take(channel, second, 1) == ["copied"]

    @pytest.mark.parametrize(("pattern", "key", "matches"), TOPIC_TRUTHS)
    def test_topic(
        self, channel: Channel, name: Names, pattern: str, key: str, matches: bool
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "topic")
        declare_bound(channel, queue := name(), exchange, [pattern])
        publish(channel, exchange, key, "matched")
        assert take(channel, queue, int(matches)) == ["matched"] * matches

    @pytest.mark.parametrize("seed", range(4))
    def test_topic_agrees_with_a_plain_reading_of_the_rule(
        self, channel: Channel, name: Names, seed: int
    ) -> None:
        chance = random.Random(seed)
        channel.exchange_declare(exchange := name("x"), "topic")
        wanted: dict[str, list[str]] = {}
        patterns: dict[str, list[str]] = {}
        for _ in range(8):
            queue = name()
            patterns[queue] = [_words(chance, "a", "b", "*", "#") for _ in range(3)]
            declare_bound(channel, queue, exchange, patterns[queue])
            wanted[queue] = []
        for number in range(25):
            key = _words(chance, "a", "b", "")
            body = f"{number}:{key}"
            publish(channel, exchange, key, body)
            for queue, its in patterns.items():
                if any(_matches(pattern.split("."), key.split(".")) for pattern in its):
                    wanted[queue].append(body)
        for queue, bodies in wanted.items():
            assert take(channel, queue, len(bodies)) == bodies, patterns[queue]


def _words(chance: random.Random, *choices: str) -> str:
    return ".".join(chance.choice(choices) for _ in range(chance.randint(1, 5)))


def _matches(pattern: list[str], words: list[str]) -> bool:
    """The rule as it is written: `*` is one word, `#` is zero or more."""
    if words == [""]:
        words = []  # RabbitMQ: an empty key has no words
    if pattern == [""]:
        return not words
    return _match_words(pattern, words)


def _match_words(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_match_words(pattern[1:], words[i:]) for i in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _match_words(pattern[1:], words[1:])
