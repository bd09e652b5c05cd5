"""The headers of the dead: what RabbitMQ writes about each death, counted, cycles noticed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kombu_core.message import Envelope
from kombu_core.virtual.deadletter import Reason, buried, deaths, is_cycle
from kombu_core.virtual.envelope import decode, encode

NOW = 1_900_000_000.7
LIVING = Envelope(b"body", {"priority": 3}, {"mine": 1}, "e", "k")


def bury(envelope: Envelope, queue: str = "q", reason: Reason = "rejected") -> Envelope:
    return buried(envelope, queue=queue, reason=reason, exchange="dlx", routing_key=None, now=NOW)


def test_a_first_death_is_written_down() -> None:
    dead = bury(LIVING)
    assert (dead.body, dead.properties) == (LIVING.body, LIVING.properties)
    assert (dead.exchange, dead.routing_key) == ("dlx", "k")
    assert dead.headers == {
        "mine": 1,
        "x-first-death-reason": "rejected",
        "x-first-death-queue": "q",
        "x-first-death-exchange": "e",
        "x-death": [
            {
                "count": 1,
                "reason": "rejected",
                "queue": "q",
                "time": datetime.fromtimestamp(int(NOW), UTC),
                "exchange": "e",
                "routing-keys": ["k"],
            }
        ],
    }
    assert LIVING.headers == {"mine": 1}


def test_the_queue_may_give_another_key() -> None:
    dead = buried(LIVING, queue="q", reason="maxlen", exchange="dlx", routing_key="other", now=NOW)
    assert dead.routing_key == "other"
    assert dead.headers["x-death"][0]["routing-keys"] == ["k"]


def test_deaths_are_counted_by_queue_and_reason_and_the_last_comes_first() -> None:
    dead = bury(bury(bury(bury(LIVING), "q2", "expired")), "q", "expired")
    found = [(one["queue"], one["reason"], one["count"]) for one in dead.headers["x-death"]]
    assert found == [("q", "expired", 1), ("q", "rejected", 2), ("q2", "expired", 1)]
    assert dead.headers["x-first-death-reason"] == "rejected"


def test_the_time_to_live_is_taken_off_and_remembered() -> None:
    mortal = LIVING._replace(properties={"expiration": "1000", "priority": 3})
    dead = bury(mortal, reason="expired")
    assert dead.properties == {"priority": 3}
    assert dead.headers["x-death"][0]["original-expiration"] == "1000"
    assert mortal.properties == {"expiration": "1000", "priority": 3}


def test_the_dead_can_be_stored() -> None:
    dead = bury(LIVING)
    assert decode(encode(dead)) == dead


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"x-death": [{"queue": "q", "reason": "expired"}]}, True),
        ({"x-death": [{"queue": "other", "reason": "expired"}]}, False),
        ({"x-death": [{"queue": "q", "reason": "rejected"}]}, False),
        (
            {"x-death": [{"queue": "p", "reason": "rejected"}, {"queue": "q", "reason": "maxlen"}]},
            False,
        ),
        (
            {"x-death": [{"queue": "q", "reason": "maxlen"}, {"queue": "p", "reason": "rejected"}]},
            True,
        ),
    ],
)
def test_a_cycle_is_a_journey_that_nobody_ended(headers: dict[str, Any], expected: bool) -> None:
    assert is_cycle("q", headers) is expected


@pytest.mark.parametrize("strange", [None, "text", 5, {}, [1, "x", None, [1]]])
def test_strange_headers_of_others_are_no_deaths(strange: Any) -> None:
    headers = {"x-death": strange}
    assert deaths(headers) == []
    assert not is_cycle("q", headers)
    assert bury(LIVING._replace(headers=headers)).headers["x-death"][0]["count"] == 1


def test_a_strange_count_begins_anew() -> None:
    headers = {"x-death": [{"queue": "q", "reason": "rejected", "count": "many"}]}
    assert bury(LIVING._replace(headers=headers)).headers["x-death"][0]["count"] == 2
