"""Many random programs, one after the other, with Hypothesis to minimize what fails."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.integration.differential.lockstep import Difference, Lockstep
from tests.integration.differential.programs import Program, programs
from tests.integration.differential.routing import RoutingSide, Topology, topologies
from tests.integration.differential.side import Side

T = TypeVar("T")

#: Seconds that are spent on minimizing one difference, and how long sides may take to agree then.
MINIMIZING: Final = 60.0
_IMPATIENCE: Final = 0.5


def open_sides(rabbitmq: str, redis: str) -> Lockstep:
    """Return the brokers that are compared, RabbitMQ first."""
    token = secrets.token_hex(4)
    return Lockstep(
        [
            Side("rabbitmq", rabbitmq),
            Side("memory", f"memory://differential-{token}"),
            Side("redis", redis, {"prefix": f"differential-{token}"}),
        ]
    )


def open_routing_sides(rabbitmq: str, redis: str) -> list[RoutingSide]:
    """The same for routing alone."""
    token = secrets.token_hex(4)
    return [
        RoutingSide("rabbitmq", rabbitmq, None, token),
        RoutingSide("memory", f"memory://routing-{token}", None, token),
        RoutingSide("redis", redis, {"prefix": f"routing-{token}"}, token),
    ]


def run_programs(lockstep: Lockstep, number: int, count: int) -> None:
    """Run `count` programs of the seed `number`.

    Raises:
        Difference: Of the smallest program that was found to show one.
    """
    patience = lockstep.patience

    def impatiently(program: Program) -> None:
        try:
            lockstep.run(program)
        except Difference:
            lockstep.patience = min(patience, _IMPATIENCE)
            raise

    try:
        _explore(programs(), impatiently, number, count)
    finally:
        lockstep.patience = patience


def run_topologies(sides: Sequence[RoutingSide], number: int, count: int) -> int:
    """Compare where messages go in `count` random topologies; returns how many messages.

    Raises:
        Difference: Of the smallest topology that was found to show one.
    """
    cases = 0

    def compare(topology: Topology) -> None:
        nonlocal cases
        token = secrets.token_hex(4)
        answers = [side.route(topology, token) for side in sides]
        cases += len(topology.letters)
        if any(answer != answers[0] for answer in answers[1:]):
            lines = [f"{topology!r}"]
            lines += [f"{number:3} {letter!r}" for number, letter in enumerate(topology.letters)]
            lines += [f"{side.kind}: {answer}" for side, answer in zip(sides, answers, strict=True)]
            raise Difference("\n".join(["brokers route differently", *lines]))

    _explore(topologies(), compare, number, count)
    return cases


def _explore(
    strategy: st.SearchStrategy[T], check: Callable[[T], object], number: int, count: int
) -> None:
    """Call `check` with `count` values; raises the Difference of the simplest that has one."""
    smallest: list[Difference] = []
    deadline = float("inf")

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def explore(value: T) -> None:
        nonlocal deadline
        if monotonic() > deadline:
            return
        try:
            check(value)
        except Difference as difference:
            if not smallest:
                deadline = monotonic() + MINIMIZING
            # Hypothesis only ever goes on from what is smaller.
            smallest[:] = [difference]
            raise

    try:
        explore()
    except Exception as error:
        if not smallest:
            raise
        raise Difference(f"seed {number}: {smallest[0]}") from error
