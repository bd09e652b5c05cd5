"""What a transport can do: refused by name where it cannot."""

from __future__ import annotations

import dataclasses

import pytest

from kombu_core.capabilities import Capabilities, StoreCapabilities
from kombu_core.exceptions import UnsupportedError
from kombu_core.memory import MemoryStore, MemoryTransport
from kombu_core.transport import TransportParameters
from kombu_core.url import parse

WEAK = StoreCapabilities(
    name="weak",
    shared=True,
    persistent=True,
    atomic_commit=False,
    priorities=False,
    delay=False,
    message_ttl=False,
    max_length=False,
    max_message_bytes=100,
)


def transport() -> MemoryTransport:
    return MemoryTransport(TransportParameters(parse("memory://"), {}))


def test_what_is_there_may_be_required() -> None:
    Capabilities(name="x", delay=True).require("delay")


def test_what_is_missing_is_refused_by_feature_and_transport() -> None:
    with pytest.raises(UnsupportedError, match=r"x transport.*delay: because") as caught:
        Capabilities(name="x").require("delay", "because")
    assert (caught.value.feature, caught.value.transport) == ("delay", "x")


def test_a_capability_that_does_not_exist_is_a_defect() -> None:
    with pytest.raises(AttributeError):
        Capabilities(name="x").require("dealy")


def test_flags_are_the_capabilities_that_are_there_or_not() -> None:
    flags = Capabilities(name="x", max_message_bytes=5).flags()
    expected = [
        field.name
        for field in dataclasses.fields(Capabilities)
        if field.name not in ("name", "exchange_types", "max_message_bytes", "max_message_hint")
    ]
    assert list(flags) == expected
    assert set(map(type, flags.values())) == {bool}


def test_a_virtual_transport_can_what_its_store_can() -> None:
    strong = transport().make_capabilities(MemoryStore.capabilities)
    weak = transport().make_capabilities(WEAK)
    lost = {name for name, value in strong.flags().items() if value and not weak.flags()[name]}
    assert lost == {
        "atomic_commit",
        "priorities",
        "delay",
        "message_ttl",
        "max_length",
        "max_length_bytes",
    }
    assert (weak.name, weak.max_message_bytes) == ("weak", 100)
    assert (weak.shared, weak.persistent) == (True, True)
    assert weak.exchange_types == {"direct", "fanout", "topic", "headers"}
    assert all(isinstance(value, bool) for value in weak.flags().values())
