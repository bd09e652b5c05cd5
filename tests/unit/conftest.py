"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from kombu_core.hookspecs import hookimpl
from kombu_core.plugins import Plugins
from kombu_core.serialization import Registry
from tests.unit.faulty import Faults, FaultyTransport


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Return the faults of the scheme `faulty`, none at first, with plugins of its own."""
    registry = Registry()
    plugins = Plugins(registry=registry)
    faults = Faults(plugins, registry)
    made = type("Transport", (FaultyTransport,), {"faults": faults})
    serve = hookimpl(lambda scheme: made if scheme == "faulty" else None)
    plugins.register(SimpleNamespace(kombu_transport=serve), "faulty")
    with faults.keeper as keeper:
        keeper.connect()
        yield faults
