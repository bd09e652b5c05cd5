"""Random programs and topologies on RabbitMQ, on memory and on Redis: an application sees the same.

`make differential` runs many more. The seed that is not fixed is in the name of its test.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Iterator
from typing import Final

import pytest

from kombu_core.testing.brokers import BrokerServer
from tests.integration.differential.lockstep import Lockstep
from tests.integration.differential.routing import RoutingSide
from tests.integration.differential.running import (
    open_routing_sides,
    open_sides,
    run_programs,
    run_topologies,
)

_FIXED: Final = 20240229
#: Another one each time, and the same in all processes that share a run of the tests.
_FRESH: Final = (
    zlib.crc32(os.environ.get("PYTEST_XDIST_TESTRUNUID", secrets.token_hex()).encode()) % 10**8
)
_PROGRAMS: Final = 120
_TOPOLOGIES: Final = 25

seeds = pytest.mark.parametrize("number", [_FIXED, _FRESH], ids=["fixed", f"seed-{_FRESH}"])


@pytest.fixture(scope="module")
def lockstep(rabbitmq_server: BrokerServer, redis_server: BrokerServer) -> Iterator[Lockstep]:
    lockstep = open_sides(rabbitmq_server.url, redis_server.url)
    yield lockstep
    lockstep.close()


@pytest.fixture(scope="module")
def routing(
    rabbitmq_server: BrokerServer, redis_server: BrokerServer
) -> Iterator[list[RoutingSide]]:
    sides = open_routing_sides(rabbitmq_server.url, redis_server.url)
    yield sides
    for side in sides:
        side.close()


@seeds
def test_random_programs_show_an_application_the_same(lockstep: Lockstep, number: int) -> None:
    run_programs(lockstep, number, _PROGRAMS)


@seeds
def test_random_topologies_route_the_same(routing: list[RoutingSide], number: int) -> None:
    assert run_topologies(routing, number, _TOPOLOGIES) > _TOPOLOGIES
