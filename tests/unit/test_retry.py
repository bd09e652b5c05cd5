"""Retrying: intervals, deadlines and what is raised at the end, on a clock of the test's own."""

from __future__ import annotations

from itertools import islice

import pytest

from kombu_core.exceptions import ConfigurationError
from kombu_core.retry import Backoff, retry


class Time:
    """A clock that only moves while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Flaky:
    """Fails some times, then returns how often it was called."""

    def __init__(self, failures: int, error: type[Exception] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(str(self.calls))
        return self.calls


EVEN = Backoff(start=1.0, step=2.0, maximum=4.0, jitter=0.0)


def test_intervals_grow_to_the_maximum() -> None:
    assert list(islice(EVEN, 5)) == [1.0, 3.0, 4.0, 4.0, 4.0]


def test_intervals_end_with_the_retries() -> None:
    assert list(Backoff(start=5.0, maximum=1.0, jitter=0.0, max_retries=2)) == [1.0, 1.0]
    assert list(Backoff(max_retries=0)) == []


def test_jitter_only_shortens() -> None:
    backoff = Backoff(start=8.0, step=0.0, jitter=0.5, max_retries=100)
    assert list(islice(backoff.intervals(lambda: 0.0), 2)) == [8.0, 8.0]
    assert list(islice(backoff.intervals(lambda: 1.0), 2)) == [4.0, 4.0]
    assert all(4.0 <= interval <= 8.0 for interval in backoff)
    assert len(set(backoff)) > 1


def test_a_policy_of_kombu() -> None:
    policy = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.3}
    backoff = Backoff.from_policy({**policy, "jitter": 0})
    assert list(backoff) == [0, 0.2, 0.3]
    assert Backoff.from_policy(None) == Backoff.from_policy({}) == Backoff()
    with pytest.raises(ConfigurationError, match=r"interval_strat.*interval_start"):
        Backoff.from_policy({"interval_strat": 1})


@pytest.mark.parametrize(
    "bad", [{"start": -1}, {"max_retries": -1}, {"jitter": 1.1}, {"step": float("nan")}]
)
def test_a_backoff_that_makes_no_sense(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        Backoff(**bad)  # type: ignore[arg-type]


def test_it_succeeds_after_failures() -> None:
    time = Time()
    told: list[tuple[str, float]] = []
    result = retry(
        Flaky(3),
        errors=OSError,
        backoff=EVEN,
        errback=lambda exc, interval: told.append((str(exc), interval)),
        clock=time,
        sleep=time.sleep,
    )
    assert result == 4
    assert time.slept == [1.0, 3.0, 4.0]
    assert told == [("1", 1.0), ("2", 3.0), ("3", 4.0)]


def test_another_error_comes_out_at_once() -> None:
    flaky = Flaky(1, KeyError)
    with pytest.raises(KeyError):
        retry(flaky, errors=(OSError, ValueError), sleep=lambda _: None)
    assert flaky.calls == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_the_last_error_is_raised_after_the_retries(retries: int) -> None:
    flaky = Flaky(100)
    told: list[object] = []
    with pytest.raises(OSError, match=str(retries + 1)):
        retry(
            flaky,
            errors=OSError,
            backoff=Backoff(max_retries=retries),
            errback=lambda exc, _: told.append(exc),
            sleep=lambda _: None,
        )
    assert flaky.calls == retries + 1
    assert len(told) == retries


def test_another_error_may_stand_for_the_last_one() -> None:
    with pytest.raises(LookupError) as caught:
        retry(
            Flaky(100),
            errors=OSError,
            backoff=Backoff(max_retries=0),
            on_exhausted=lambda exc: LookupError(f"gave up: {exc}"),
        )
    assert isinstance(caught.value.__cause__, OSError)


def test_the_deadline_cuts_the_last_interval() -> None:
    time = Time()
    flaky = Flaky(100)
    with pytest.raises(OSError, match="4"):
        retry(flaky, errors=OSError, backoff=EVEN, timeout=6.0, clock=time, sleep=time.sleep)
    assert time.slept == [1.0, 3.0, 2.0]
    assert flaky.calls == 4


def test_no_time_means_one_attempt() -> None:
    time = Time()
    flaky = Flaky(100)
    with pytest.raises(OSError, match="1"):
        retry(flaky, errors=OSError, timeout=0.0, clock=time, sleep=time.sleep)
    assert flaky.calls == 1
    assert time.slept == []


def test_the_hopeless_among_the_errors_comes_out_at_once() -> None:
    flaky = Flaky(100)
    with pytest.raises(OSError, match="1"):
        retry(flaky, errors=Exception, hopeless=OSError, backoff=EVEN)
    assert flaky.calls == 1
