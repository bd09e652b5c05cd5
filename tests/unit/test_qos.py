"""The prefetch limit that threads change."""

from __future__ import annotations

import logging

import pytest

from kombu_core.qos import PREFETCH_COUNT_MAX, QoS


def made(initial: int | None, **options: int) -> tuple[QoS, list[int]]:
    applied: list[int] = []

    def apply(*, prefetch_count: int) -> None:
        applied.append(prefetch_count)

    return QoS(apply, initial, **options), applied


def test_only_an_update_that_changes_something_is_applied() -> None:
    qos, applied = made(2)
    assert qos.update() == qos.update() == 2
    assert qos.increment_eventually() == 3
    assert applied == [2]
    assert qos.update() == 3
    assert qos.decrement_eventually(2) == 1
    assert qos.decrement_eventually() == 1
    qos.update()
    assert applied == [2, 3, 1]


def test_no_limit_stays_none() -> None:
    qos, applied = made(None)
    qos.increment_eventually(5)
    qos.decrement_eventually(5)
    assert qos.update() == 0
    assert applied == [0]


def test_counting_up_ends_at_the_maximum() -> None:
    qos, _ = made(2, max_prefetch=4)
    assert qos.increment_eventually(10) == 4
    assert qos.increment_eventually(-3) == 4


def test_what_amqp_cannot_say_means_no_limit(caplog: pytest.LogCaptureFixture) -> None:
    qos, applied = made(PREFETCH_COUNT_MAX)
    qos.update()
    qos.increment_eventually()
    with caplog.at_level(logging.WARNING):
        qos.update()
    assert applied == [PREFETCH_COUNT_MAX, 0]
    assert "65536" in caplog.text
