"""Headers exchanges: x-match in its four forms, and when two values are equal."""

from __future__ import annotations

from typing import Any, Final

import pytest

from kombu_core.exceptions import PreconditionFailedError
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import Names, publish, take
from kombu_core.transport import Channel

AB: Final = {"a": "1", "b": "2"}

#: (what the binding asks for, the message's headers, whether it matches): as RabbitMQ answers.
HEADERS_TRUTHS: Final[list[tuple[dict[str, Any], dict[str, Any], bool]]] = [
    ({"x-match": "all", **AB}, {"a": "1", "b": "2"}, True),
    ({"x-match": "all", **AB}, {"a": "1", "b": "2", "c": "3"}, True),
    ({"x-match": "all", **AB}, {"a": "1"}, False),
    ({"x-match": "all", **AB}, {"a": "1", "b": "x"}, False),
    ({"x-match": "all", **AB}, {}, False),
    ({"x-match": "any", **AB}, {"a": "1"}, True),
    ({"x-match": "any", **AB}, {"a": "x", "b": "2"}, True),
    ({"x-match": "any", **AB}, {"a": "x", "b": "y"}, False),
    ({"x-match": "any", **AB}, {}, False),
    # all is what holds without x-match
    (AB, {"a": "1", "b": "2"}, True),
    (AB, {"a": "1"}, False),
    # nothing asked for
    ({}, {}, True),
    ({}, {"a": "1"}, True),
    ({"x-match": "all"}, {"a": "1"}, True),
    ({"x-match": "any"}, {"a": "1"}, False),
    ({"x-match": "any"}, {}, False),
    # a header that begins with x- counts only where the mode says so
    ({"x-match": "all", "x-a": "1"}, {"x-a": "2"}, True),
    ({"x-match": "all", "x-a": "1", "b": "2"}, {"b": "2"}, True),
    ({"x-match": "any", "x-a": "1"}, {"x-a": "1"}, False),
    ({"x-match": "any", "x-a": "1", "b": "2"}, {"x-a": "1"}, False),
    ({"x-match": "all-with-x", "x-a": "1", "b": "2"}, {"x-a": "1", "b": "2"}, True),
    ({"x-match": "all-with-x", "x-a": "1", "b": "2"}, {"b": "2"}, False),
    ({"x-match": "all-with-x", "x-a": "1"}, {"x-a": "2"}, False),
    ({"x-match": "any-with-x", "x-a": "1", "b": "2"}, {"x-a": "1"}, True),
    ({"x-match": "any-with-x", "x-a": "1", "b": "2"}, {"x-a": "2"}, False),
    # no value asks for presence
    ({"x-match": "all", "a": None}, {"a": "anything"}, True),
    ({"x-match": "all", "a": None}, {"a": None}, True),
    ({"x-match": "all", "a": None}, {}, False),
    ({"x-match": "any", "a": None, "b": "2"}, {"a": 1}, True),
    # values have types
    ({"x-match": "all", "n": 1}, {"n": 1}, True),
    ({"x-match": "all", "n": 1}, {"n": "1"}, False),
    ({"x-match": "all", "n": 1}, {"n": True}, False),
    ({"x-match": "all", "n": 0}, {"n": False}, False),
    ({"x-match": "all", "n": 1}, {"n": 1.0}, True),
    ({"x-match": "all", "n": 1}, {"n": 1.5}, False),
    ({"x-match": "all", "n": 2}, {"n": 2**40}, False),
    ({"x-match": "all", "n": 2**40}, {"n": 2**40}, True),
    ({"x-match": "all", "n": 1.5}, {"n": 1.5}, True),
    ({"x-match": "all", "n": True}, {"n": True}, True),
    ({"x-match": "all", "n": True}, {"n": False}, False),
    ({"x-match": "all", "a": "text"}, {"a": "Text"}, False),
    ({"x-match": "all", "a": "ünï"}, {"a": "ünï"}, True),
    ({"x-match": "all", "a": ""}, {"a": ""}, True),
    ({"x-match": "all", "a": "1"}, {"A": "1"}, False),
    ({"x-match": "all", "a": [1, "2"]}, {"a": [1, "2"]}, True),
    ({"x-match": "all", "a": [1, "2"]}, {"a": ["2", 1]}, False),
    ({"x-match": "all", "a": {"b": 1}}, {"a": {"b": 1}}, True),
]


class HeadersContract(ContractFixtures):
    """exchange type `headers`."""

    @requires("exchange:headers")
    @pytest.mark.parametrize(("wanted", "headers", "matches"), HEADERS_TRUTHS)
    def test_headers(
        self,
        channel: Channel,
        name: Names,
        wanted: dict[str, Any],
        headers: dict[str, Any],
        matches: bool,
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "headers")
        channel.queue_declare(queue := name())
        channel.queue_bind(queue, exchange, "", wanted)
        publish(channel, exchange, "", "matched", headers=headers)
        assert take(channel, queue, int(matches)) == ["matched"] * matches

    @requires("exchange:headers")
    def test_headers_ignores_the_key(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "headers")
        channel.queue_declare(queue := name())
        channel.queue_bind(queue, exchange, "bound with a key", {"a": 1})
        publish(channel, exchange, "another key", "matched", headers={"a": 1})
        assert take(channel, queue, 1) == ["matched"]

    @requires("exchange:headers")
    def test_headers_gives_one_copy_for_many_bindings(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "headers")
        channel.queue_declare(queue := name())
        channel.queue_bind(queue, exchange, "", {"x-match": "any", "a": 1, "b": 2})
        channel.queue_bind(queue, exchange, "", {"x-match": "all", "a": 1})
        publish(channel, exchange, "", "one", headers={"a": 1, "b": 2})
        assert take(channel, queue, 1) == ["one"]

    @requires("exchange:headers")
    @pytest.mark.parametrize("mode", ["some", "ALL", 1, ""])
    def test_an_unknown_x_match_is_refused(
        self, channel: Channel, name: Names, mode: object
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "headers")
        channel.queue_declare(queue := name())
        with pytest.raises(PreconditionFailedError):
            channel.queue_bind(queue, exchange, "", {"x-match": mode, "a": 1})
