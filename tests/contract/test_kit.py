"""The kit's own rules: names are unique, capabilities are covered, nothing is weakened."""

from __future__ import annotations

import pytest

from kombu_core.capabilities import Capabilities
from kombu_core.testing.contract import TransportContract
from kombu_core.testing.contract.requirements import ASKS, INFORMATIVE


def _topics() -> list[type]:
    return [base for base in TransportContract.__mro__ if base.__name__.endswith("Contract")]


def test_every_flag_is_asked_for_or_informative() -> None:
    flags = set(Capabilities(name="any").flags())
    assert set(ASKS) | INFORMATIVE == flags
    assert not set(ASKS) & INFORMATIVE


def test_no_two_topics_share_the_name_of_a_test() -> None:
    seen: dict[str, str] = {}
    for topic in _topics():
        for test in vars(topic):
            if test.startswith("test_"):
                assert seen.setdefault(test, topic.__name__) == topic.__name__
    assert len(seen) > 200


def test_every_requirement_is_a_capability_or_an_exchange_type() -> None:
    flags = Capabilities(name="any").flags()
    for topic in _topics():
        for function in vars(topic).values():
            for mark in getattr(function, "pytestmark", []):
                if mark.name == "requires":
                    for name in mark.args:
                        assert name in flags or name.startswith("exchange:")


def test_a_test_cannot_be_removed() -> None:
    with pytest.raises(TypeError, match="test_messages_come_in_order is removed"):
        type("Less", (TransportContract,), {"test_messages_come_in_order": None})


def test_a_test_cannot_be_overridden_without_a_reason() -> None:
    def easier(self: object) -> None:
        """Pass."""

    with pytest.raises(TypeError, match="overridden without a reason"):
        type("Less", (TransportContract,), {"test_messages_come_in_order": easier})
    bare = pytest.mark.xfail(easier)
    with pytest.raises(TypeError, match="overridden without a reason"):
        type("Less", (TransportContract,), {"test_messages_come_in_order": bare})


def test_a_test_cannot_be_overridden_by_another_base() -> None:
    class Easier:
        def test_messages_come_in_order(self) -> None:
            """Pass."""

    with pytest.raises(TypeError, match="overridden without a reason"):
        type("Less", (Easier, TransportContract), {})


def test_an_explained_deviation_is_allowed() -> None:
    @pytest.mark.xfail(reason="the broker reorders, see its manual")
    def known(self: object) -> None:
        raise AssertionError

    type("Honest", (TransportContract,), {"test_messages_come_in_order": known})
