"""Trying again: intervals as a pure iterator, and a loop over them with an injected clock."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kombu_core.exceptions import ConfigurationError

T = TypeVar("T")

Clock = Callable[[], float]
Sleep = Callable[[float], object]
#: Called after each failure that is followed by another attempt: the error, seconds until then.
Errback = Callable[[BaseException, float], object]

#: kombu's names in a `retry_policy`, and ours.
_POLICY_FIELDS: Final = {
    "max_retries": "max_retries",
    "interval_start": "start",
    "interval_step": "step",
    "interval_max": "maximum",
    "jitter": "jitter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before each further attempt; iterate for the seconds."""

    #: Seconds before the second attempt.
    start: float = 2.0
    #: Seconds that each interval is longer than the one before.
    step: float = 2.0
    #: Seconds that no interval exceeds.
    maximum: float = 30.0
    #: Part of each interval, from 0 to 1, that is left to chance, so that the clients of a broker
    #: that restarts do not all come back in the same instant. Intervals only get shorter by it.
    jitter: float = 0.25
    #: Attempts after the first; None for no end, 0 for none.
    max_retries: int | None = None

    def __post_init__(self) -> None:
        for name in ("start", "step", "maximum", "max_retries"):
            value = getattr(self, name)
            # Written so that NaN fails too.
            if value is not None and not value >= 0:
                raise ConfigurationError(f"The backoff's {name} is negative: {value}")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"The backoff's jitter is not within 0 and 1: {self.jitter}")

    @classmethod
    def from_policy(cls, policy: Mapping[str, Any] | None = None, /) -> Backoff:
        """Make one from kombu's `retry_policy`; what it leaves out is as by default.

        Known are max_retries, interval_start, interval_step, interval_max, and jitter.

        Raises:
            ConfigurationError: Another key.
        """
        policy = policy or {}
        unknown = sorted(set(policy) - set(_POLICY_FIELDS))
        if unknown:
            raise ConfigurationError(
                f"Unknown in a retry policy: {', '.join(unknown)} "
                f"(known: {', '.join(_POLICY_FIELDS)})"
            )
        return cls(**{_POLICY_FIELDS[key]: value for key, value in policy.items()})

    def __iter__(self) -> Iterator[float]:
        return self.intervals()

    def intervals(self, chance: Callable[[], float] = random.random) -> Iterator[float]:
        """Yield the seconds before each further attempt, `max_retries` of them.

        Args:
            chance: Returns a number from 0 to 1 for the jitter of each.
        """
        counter = itertools.count() if self.max_retries is None else range(self.max_retries)
        for number in counter:
            interval = min(self.start + number * self.step, self.maximum)
            yield interval * (1.0 - self.jitter * chance()) if self.jitter else interval


def retry(
    function: Callable[[], T],
    *,
    errors: type[BaseException] | tuple[type[BaseException], ...],
    hopeless: type[BaseException] | tuple[type[BaseException], ...] = (),
    backoff: Backoff | None = None,
    timeout: float | None = None,
    errback: Errback | None = None,
    on_exhausted: Callable[[BaseException], BaseException] | None = None,
    clock: Clock = time.monotonic,
    sleep: Sleep = time.sleep,
    chance: Callable[[], float] = random.random,
) -> T:
    """Call `function` until it succeeds, and return what it returns.

    Blocks in `sleep` between the attempts. The last interval is cut so that the last attempt
    begins at the deadline; an attempt that runs is never interrupted.

    Args:
        function: What to call; bind its arguments with functools.partial.
        errors: What is worth another attempt; anything else comes out at once.
        hopeless: What is not, though it is one of `errors`.
        backoff: The intervals and how many; None for the default one, which has no end.
        timeout: Seconds from now after which there is no further attempt.
        errback: Told of each error that is followed by another attempt.
        on_exhausted: Makes the error to raise at the end from the last one, which it is chained
            to. None raises the last one itself.
        clock: Returns seconds that never go back.
        sleep: Waits for some seconds.
        chance: Returns a number from 0 to 1 for the jitter.
    """
    deadline = None if timeout is None else clock() + timeout
    intervals = (Backoff() if backoff is None else backoff).intervals(chance)
    while True:
        try:
            return function()
        except hopeless:
            raise
        except errors as exc:
            interval = next(intervals, None)
            if interval is not None and deadline is not None:
                left = deadline - clock()
                interval = min(interval, left) if left > 0 else None
            if interval is None:
                if on_exhausted is None:
                    raise
                raise on_exhausted(exc) from exc
            if errback is not None:
                errback(exc, interval)
        # Outside of the handler, so that nothing keeps the traceback while it waits.
        if interval > 0:
            sleep(interval)
