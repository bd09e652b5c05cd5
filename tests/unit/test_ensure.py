"""Calling again after a failure: `Connection.ensure_connection` and `Connection.ensure`."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_core.exceptions import ConfigurationError, ConnectError, ConnectionLostError
from kombu_core.transport import Channel
from tests.unit.faulty import Faults


def test_ensure_connection_tries_until_it_works(faults: Faults) -> None:
    faults.connect = [ConnectError("1"), ConnectionLostError("2")]
    told: list[tuple[str, float]] = []
    attempts: list[None] = []
    with faults.open() as connection:
        same = connection.ensure_connection(
            lambda error, interval: told.append((str(error), interval)),
            interval_start=0.0,
            interval_step=0.0,
            callback=lambda: attempts.append(None),
        )
        assert same is connection
        assert connection.connected
    assert told == [("1", 0.0), ("2", 0.0)]
    assert len(attempts) == 3


@pytest.mark.parametrize(
    ("limit", "attempts"), [({"max_retries": 1}, 2), ({"max_retries": 0}, 1), ({"timeout": 0.0}, 1)]
)
def test_ensure_connection_gives_up(faults: Faults, limit: dict[str, Any], attempts: int) -> None:
    faults.connect = [ConnectError(str(number)) for number in range(5)]
    with pytest.raises(ConnectError, match=str(attempts - 1)):
        faults.open().ensure_connection(interval_start=0.0, interval_step=0.0, **limit)
    assert len(faults.connect) == 5 - attempts


def test_ensure_connection_does_not_repeat_what_cannot_succeed(faults: Faults) -> None:
    faults.connect = [ConfigurationError("never")]
    with pytest.raises(ConfigurationError):
        faults.open().ensure_connection()


class User:
    """Something that works on a channel."""

    def __init__(self) -> None:
        self.revived: list[Channel] = []

    def revive(self, channel: Channel) -> None:
        self.revived.append(channel)


def test_ensure_reconnects_revives_and_calls_again(faults: Faults) -> None:
    user = User()
    others: list[Channel] = []
    calls: list[tuple[int, str]] = []
    with faults.open() as connection:
        channel = connection.default_channel

        def work(number: int, *, word: str) -> str:
            calls.append((number, word))
            if len(calls) == 1:
                faults.transports[-1].cut()
            (others[-1] if others else channel).queue_declare("q")
            return "done"

        insured = connection.ensure(user, work, interval_start=0.0, on_revive=others.append)
        assert insured.__name__ == "work(insured)"
        assert insured(1, word="x") == "done"
        assert calls == [(1, "x"), (1, "x")]
        assert user.revived == others == [connection.default_channel]
        assert len(faults.transports) == 2


def test_ensure_waits_for_a_broker_that_is_away(faults: Faults) -> None:
    faults.connect = [ConnectError("1"), ConnectError("2")]
    with faults.open() as connection:
        declare = connection.ensure(
            None, lambda: connection.default_channel.queue_declare("q").queue, interval_start=0.0
        )
        assert declare() == "q"
    assert faults.connect == []


def test_ensure_gives_up_with_the_last_error(faults: Faults) -> None:
    errors = [ConnectionLostError("1"), ConnectionLostError("2")]
    told: list[str] = []

    def work() -> None:
        raise errors.pop(0)

    with faults.open() as connection:
        insured = connection.ensure(
            None, work, lambda error, _: told.append(str(error)), max_retries=1, interval_start=0.0
        )
        with pytest.raises(ConnectionLostError, match="2"):
            insured()
    assert told == ["1"]


def test_ensure_lets_the_errors_of_the_application_out(faults: Faults) -> None:
    calls: list[None] = []

    def work() -> None:
        calls.append(None)
        raise ValueError("the application's")

    with faults.open() as connection, pytest.raises(ValueError, match="the application's"):
        connection.ensure(None, work)()
    assert len(calls) == 1


def test_ensure_repeats_other_errors_if_it_is_told_to(faults: Faults) -> None:
    left = [ValueError("1"), ValueError("2")]

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    with faults.open() as connection:
        insured = connection.ensure(None, work, interval_start=0.0, retry_errors=(ValueError,))
        assert insured() == "done"
