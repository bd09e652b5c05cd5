"""What a queue's arguments ask for, and which of them are refused."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_core.capabilities import Capabilities
from kombu_core.exceptions import PreconditionFailedError, UnsupportedError
from kombu_core.virtual.policy import (
    QueuePolicy,
    check_arguments,
    consumer_priority,
    policy_of,
)
from kombu_core.virtual.store import Limit

ALL = Capabilities(
    name="all",
    priorities=True,
    message_ttl=True,
    queue_expires=True,
    dead_letters=True,
    max_length=True,
    max_length_bytes=True,
    single_active_consumer=True,
    consumer_priorities=True,
    delivery_limit=True,
)
NONE = Capabilities(name="weak")
GOOD: dict[str, Any] = {
    "x-expires": 1,
    "x-message-ttl": 0,
    "x-max-length": 0,
    "x-max-length-bytes": 2**40,
    "x-overflow": "reject-publish",
    "x-max-priority": 255,
    "x-dead-letter-exchange": "",
    "x-single-active-consumer": True,
    "x-delivery-limit": 0,
}


def test_good_arguments_are_accepted() -> None:
    check_arguments("q", GOOD, ALL)
    check_arguments("q", {**GOOD, "x-dead-letter-routing-key": "k"}, ALL)
    check_arguments("q", {"x-queue-type": "classic", "x-queue-mode": "lazy"}, NONE)


def test_arguments_of_the_application_mean_nothing() -> None:
    check_arguments("q", {"note": object()}, NONE)
    assert policy_of({"note": 1}) == QueuePolicy()


@pytest.mark.parametrize("name", GOOD)
def test_an_argument_beyond_the_transport_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"weak.*{name}"):
        check_arguments("q", {name: GOOD[name]}, NONE)


@pytest.mark.parametrize("arguments", [{"x-nonsense": 1}, {"x-queue-type": "stream"}])
def test_an_unknown_argument_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        check_arguments("q", arguments, ALL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-expires", 0),
        ("x-expires", "1000"),
        ("x-message-ttl", -1),
        ("x-message-ttl", 1.5),
        ("x-message-ttl", True),
        ("x-max-length", -1),
        ("x-max-length-bytes", "1"),
        ("x-overflow", "drop-tail"),
        ("x-overflow", 1),
        ("x-max-priority", 256),
        ("x-max-priority", -1),
        ("x-dead-letter-exchange", 1),
        ("x-dead-letter-routing-key", None),
        ("x-single-active-consumer", 1),
        ("x-delivery-limit", -1),
        ("x-queue-type", "nonsense"),
        ("x-queue-mode", "default "),
    ],
)
def test_a_bad_value_is_refused_with_its_argument_and_queue(name: str, value: Any) -> None:
    with pytest.raises(PreconditionFailedError, match=f"'{name}' for queue 'q'"):
        check_arguments("q", {"x-dead-letter-exchange": "", name: value}, ALL)


def test_a_dead_letter_key_needs_an_exchange() -> None:
    with pytest.raises(PreconditionFailedError, match="routing_key_but_no_dlx_defined"):
        check_arguments("q", {"x-dead-letter-routing-key": "k"}, ALL)


def test_a_policy_is_in_the_units_of_the_store() -> None:
    policy = policy_of(
        {
            "x-expires": 1500,
            "x-message-ttl": 250,
            "x-max-priority": 9,
            "x-dead-letter-exchange": "dlx",
            "x-dead-letter-routing-key": "k",
            "x-single-active-consumer": True,
            "x-delivery-limit": 3,
        }
    )
    assert (policy.expires, policy.message_ttl, policy.max_priority) == (1.5, 0.25, 9)
    assert (policy.dead_letter_exchange, policy.dead_letter_routing_key) == ("dlx", "k")
    assert (policy.single_active_consumer, policy.delivery_limit) == (True, 3)
    assert not policy.is_plain


@pytest.mark.parametrize(
    ("arguments", "limit", "dead_letters_rejected"),
    [
        ({}, None, False),
        ({"x-overflow": "reject-publish"}, None, False),
        ({"x-max-length": 3}, Limit(3), False),
        ({"x-max-length": 0, "x-max-length-bytes": 9}, Limit(0, 9), False),
        ({"x-max-length": 3, "x-overflow": "reject-publish"}, Limit(3, None, "reject"), False),
        ({"x-max-length": 3, "x-overflow": "reject-publish-dlx"}, Limit(3, None, "reject"), True),
        (
            {"x-max-length": 3, "x-dead-letter-exchange": ""},
            Limit(3, None, "drop-head", keep_dropped=True),
            False,
        ),
    ],
)
def test_limits(
    arguments: dict[str, Any], limit: Limit | None, dead_letters_rejected: bool
) -> None:
    policy = policy_of(arguments)
    assert policy.limit == limit
    assert policy.dead_letters_rejected is dead_letters_rejected


@pytest.mark.parametrize(
    ("arguments", "priority"),
    [({}, 0), ({"x-priority": -5}, -5), ({"x-priority": 7, "note": 1}, 7)],
)
def test_a_consumer_may_ask_for_a_priority(arguments: dict[str, Any], priority: int) -> None:
    assert consumer_priority(arguments, ALL) == priority


@pytest.mark.parametrize(
    ("arguments", "capabilities", "error"),
    [
        ({"x-priority": 1}, NONE, UnsupportedError),
        ({"x-nonsense": 1}, ALL, UnsupportedError),
        ({"x-priority": "1"}, ALL, PreconditionFailedError),
        ({"x-priority": 2**31}, ALL, PreconditionFailedError),
    ],
)
def test_what_a_consumer_may_not_ask_for(
    arguments: dict[str, Any], capabilities: Capabilities, error: type[Exception]
) -> None:
    with pytest.raises(error):
        consumer_priority(arguments, capabilities)
