"""Runs one program on several brokers in lockstep, and compares what an application sees.

Brokers do some things a moment later (a dead letter, a delivery), so after each step all sides are
looked at until they agree, or do not for `PATIENCE` seconds. What a step returns or raises has to
agree at once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pprint import pformat
from time import monotonic
from typing import Any, Final

from tests.integration.differential.side import Side
from tests.integration.differential.steps import (
    SHORT,
    SHORT_MS,
    Cancel,
    CloseChannel,
    CloseConnection,
    Consume,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Elapse,
    Get,
    Message,
    Publish,
    PublishBatch,
    PurgeQueue,
    Qos,
    Recover,
    Settle,
    Step,
    Tx,
)

#: Seconds that sides may take to agree.
PATIENCE: Final = 2.0
#: Steps whose effect may come a moment later, and perhaps shows in the counts only.
_SETTLES_LATER: Final = (
    Cancel,
    CloseChannel,
    CloseConnection,
    DeleteExchange,
    DeleteQueue,
    Elapse,
    Recover,
    Settle,
    Tx,
)
#: Steps after which there may be something to see; queues are counted after some of them.
_MAY_SHOW: Final = (Consume, Get, Publish, PublishBatch, PurgeQueue, Qos)
_COUNT_EVERY: Final = 3
#: Share of a short time to live within which steps may still be done.
_FRESH: Final = 0.5


class Difference(AssertionError):
    """Brokers disagree; the text says where and how."""


class TooSlow(Exception):
    """A step took so long that a message may have expired before or after it."""


class Lockstep:
    """The sides of a comparison. The first one decides what is right."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self._sides = sides
        #: Seconds; less while a difference is being minimized.
        self.patience = PATIENCE
        #: Programs that were run, and those that were too slow to be judged.
        self.ran = self.slow = 0

    def run(self, program: Sequence[Step]) -> None:
        """Run a program on all sides.

        Raises:
            Difference: They disagree.
        """
        token = secrets.token_hex(4)
        clock = _Clock(program)
        for side in self._sides:
            side.begin(token)
        done: list[Step] = []
        self.ran += 1
        try:
            for step in program:
                if clock.is_stale():
                    self._step(clock, Elapse(), done)
                self._step(clock, step, done)
            if clock.is_timed:
                self._step(clock, Elapse(), done)
            self._compare_contents(done)
        except TooSlow:
            self.slow += 1
        finally:
            for side in self._sides:
                side.clean()

    def close(self) -> None:
        """Close all sides."""
        for side in self._sides:
            side.close()

    def _step(self, clock: _Clock, step: Step, done: list[Step]) -> None:
        done.append(step)
        clock.begin(step)
        outcomes = [side.do(step) for side in self._sides]
        self._check(outcomes, done, "returned or raised")
        # A channel that was closed for an error gives back what it had.
        if (
            isinstance(step, _SETTLES_LATER)
            or outcomes[0][0] == "raised"
            or (isinstance(step, _MAY_SHOW) and (clock.is_ticking or len(done) % _COUNT_EVERY == 0))
        ):
            self._agree(done)
        elif isinstance(step, _MAY_SHOW):
            self._agree(done, counts=False)
        clock.end()

    def _agree(self, done: list[Step], *, counts: bool = True) -> None:
        deadline, pause = monotonic() + self.patience, 0.001
        while True:
            states = [side.observe(counts=counts) for side in self._sides]
            if all(state == states[0] for state in states[1:]):
                break
            if monotonic() > deadline:
                self._check(states, done, "sees")
            time.sleep(pause)
            pause = min(2 * pause, 0.03)
        if any("absent" in state["queues"].values() for state in states):
            for side in self._sides:
                side.drop_what_is_gone()

    def _compare_contents(self, done: list[Step]) -> None:
        for side in self._sides:
            side.leave()
        self._agree([*done, "the end: all channels are closed"])  # type: ignore[list-item]
        for label in sorted(self._sides[0].queues):
            contents = [side.contents(label) for side in self._sides]
            self._check(contents, done, f"finds in {label} at the end")

    def _check(self, values: list[Any], done: Sequence[Step], what: str) -> None:
        if all(value == values[0] for value in values[1:]):
            return
        lines = [f"{number:3} {step!r}" for number, step in enumerate(done, 1)]
        for side, value in zip(self._sides, values, strict=True):
            lines.append(f"{side.kind} {what}: {pformat(value, width=100)}")
        raise Difference("\n".join(["brokers disagree after", *lines]))


class _Clock:
    """Tells when messages with a short time to live have to be waited for."""

    def __init__(self, program: Sequence[Step]) -> None:
        #: How many times to live a message may go through, one after the other.
        self._lives = sum(map(_is_short_queue, program)) + any(map(_is_short, program))
        #: Whether something expires in it, later or at once: when exactly, is a known difference.
        self.is_ticking = self._lives > 0 or any(map(_is_at_once, program))
        self._first_put: float | None = None
        self._began = 0.0

    @property
    def is_timed(self) -> bool:
        """Whether anything expires within the program."""
        return self._lives > 0

    def is_stale(self) -> bool:
        """Whether time has to pass before the next step can be judged."""
        return self._first_put is not None and monotonic() - self._first_put > SHORT * _FRESH

    def begin(self, step: Step) -> None:
        """A step begins; waits if that is what it is for."""
        self._began = monotonic()
        if not self.is_timed:
            return
        if isinstance(step, Elapse):
            time.sleep(SHORT * self._lives + 0.02)
            self._first_put = None
        elif self._first_put is None:
            self._first_put = self._began

    def end(self) -> None:
        """A step ended; raises TooSlow if something may have expired in the middle of it."""
        if self._first_put is not None and monotonic() - self._first_put > SHORT * 0.9:
            raise TooSlow


def _is_short_queue(step: Step) -> bool:
    return isinstance(step, DeclareQueue) and step.arguments.get("x-message-ttl") == SHORT_MS


def _is_short(step: Step) -> bool:
    return str(SHORT_MS) in _expirations(step)


def _is_at_once(step: Step) -> bool:
    if isinstance(step, DeclareQueue):
        return step.arguments.get("x-message-ttl") == 0
    return "0" in _expirations(step)


def _expirations(step: Step) -> list[str]:
    messages: tuple[Message, ...] = ()
    if isinstance(step, Publish):
        messages = (step.message,)
    elif isinstance(step, PublishBatch):
        messages = step.messages
    return [message.properties.get("expiration", "") for message in messages]
