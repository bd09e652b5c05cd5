"""Which bindings a message matches, for each exchange type, and that removing leaves nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_core.exceptions import PreconditionFailedError
from kombu_core.virtual.routing import (
    EXCHANGE_TYPES,
    Binding,
    BindingTable,
    Destination,
    DirectTable,
    FanoutTable,
    HeadersTable,
    TopicTable,
)


def bind(queue: str, key: str = "", arguments: Mapping[str, Any] | None = None) -> Binding:
    return Binding(f"{queue}|{key}|{arguments}", Destination("queue", queue), key, arguments or {})


def matched(
    table: BindingTable, key: str = "", headers: Mapping[str, Any] | None = None
) -> list[str]:
    return sorted(place.name for place in table.match(key, headers or {}))


def filled(table: BindingTable, *bindings: Binding) -> BindingTable:
    for binding in bindings:
        table.add(binding)
    return table


# -- direct and fanout -----------------------------------------------------------------------


def test_direct_matches_equal_keys_only() -> None:
    table = filled(DirectTable({}), bind("a", "k"), bind("b", "k"), bind("c", "k.k"), bind("d"))
    assert matched(table, "k") == ["a", "b"]
    assert matched(table, "k.k") == ["c"]
    assert matched(table, "") == ["d"]
    assert matched(table, "K") == []


def test_fanout_matches_whatever_the_key_is() -> None:
    table = filled(FanoutTable({}), bind("a", "k"), bind("b"))
    assert matched(table, "nonsense") == ["a", "b"]


@pytest.mark.parametrize("kind", EXCHANGE_TYPES)
def test_adding_a_binding_twice_adds_it_once(kind: str) -> None:
    table = filled(EXCHANGE_TYPES[kind]({}), bind("a", "k"), bind("a", "k"))
    table.discard(bind("a", "k"))
    assert matched(table, "k") == []


@pytest.mark.parametrize("kind", EXCHANGE_TYPES)
def test_discarding_what_was_never_added_changes_nothing(kind: str) -> None:
    table = filled(EXCHANGE_TYPES[kind]({}), bind("a", "k"))
    table.discard(bind("b", "k"))
    table.discard(bind("a", "other.key"))
    assert matched(table, "k") == ["a"]


@pytest.mark.parametrize("kind", EXCHANGE_TYPES)
def test_a_table_from_which_all_is_discarded_holds_nothing(kind: str) -> None:
    table = EXCHANGE_TYPES[kind]({})
    empty = repr(_inside(table))
    bindings = [bind(str(number), f"a.{number}.*.#") for number in range(20)]
    filled(table, *bindings)
    for binding in random.Random(1).sample(bindings, len(bindings)):
        table.discard(binding)
    assert repr(_inside(table)) == empty


def _inside(value: object) -> object:
    """Return what an object holds, all the way down."""
    if isinstance(value, dict):
        return {key: _inside(item) for key, item in value.items()}
    slots = getattr(type(value), "__slots__", ())
    held = {name: getattr(value, name) for name in slots} or dict(getattr(value, "__dict__", {}))
    return {name: _inside(item) for name, item in held.items()} if held else value


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic"])
def test_any_binding_is_valid_where_arguments_mean_nothing(kind: str) -> None:
    EXCHANGE_TYPES[kind]({}).validate(bind("q", "#.*..", {"x-match": 5}))


# -- topic -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "", False),
        ("*", "", False),
        ("#", "", True),
        ("*", "a", True),
        ("*", "a.b", False),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "ab", False),
        ("#.a", "a", True),
        ("#.a", "b.c.a", True),
        ("#.a", "a.b", False),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.x.y.b", True),
        ("a.#.b", "a.x.y", False),
        ("a.*.b", "a.b", False),
        ("*.#", "", False),
        ("#.*", "a", True),
        ("#.#", "", True),
        ("#.#.#", "a.b", True),
        ("*.*", "a.", True),
        ("a.", "a.", True),
        ("a.", "a", False),
        ("a..b", "a..b", True),
        ("a.*.b", "a..b", True),
        ("*", "*", True),
        ("a", "*", False),
        ("a", "#", False),
        ("#", "#", True),
        ("A", "a", False),
    ],
)
def test_topic_follows_the_truth_table(pattern: str, key: str, expected: bool) -> None:
    assert matched(filled(TopicTable({}), bind("q", pattern)), key) == (["q"] if expected else [])


def agrees(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Read AMQP's rule as it stands (0-9-1, section 3.1.3.3)."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return agrees(pattern[1:], words) or (bool(words) and agrees(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and agrees(pattern[1:], words[1:])


def split(key: str) -> list[str]:
    return key.split(".") if key else []


patterns = st.lists(st.sampled_from(["a", "b", "", "*", "#"]), max_size=5).map(".".join)
keys = st.lists(st.sampled_from(["a", "b", "", "c"]), max_size=6).map(".".join)


@given(st.lists(patterns, unique=True, max_size=12), st.lists(keys, min_size=1, max_size=5))
def test_topic_agrees_with_the_rule_read_word_by_word(bound: list[str], sent: list[str]) -> None:
    table = filled(TopicTable({}), *(bind(pattern, pattern) for pattern in bound))
    for key in sent:
        expected = sorted(name for name in bound if agrees(split(name), split(key)))
        assert matched(table, key) == expected


@given(
    st.lists(st.tuples(st.booleans(), patterns), max_size=40),
    st.lists(keys, min_size=1, max_size=4),
)
def test_topic_forgets_what_was_discarded_in_whatever_order(
    steps: list[tuple[bool, str]], sent: list[str]
) -> None:
    table = TopicTable({})
    bound: set[str] = set()
    for is_added, pattern in steps:
        (table.add if is_added else table.discard)(bind(pattern, pattern))
        (bound.add if is_added else bound.discard)(pattern)
    for key in sent:
        expected = sorted(name for name in bound if agrees(split(name), split(key)))
        assert matched(table, key) == expected


def test_many_hashes_cost_no_more_than_others() -> None:
    table = filled(TopicTable({}), bind("q", ".".join("#a" * 30)))
    assert matched(table, ".".join("a" * 60)) == ["q"]
    assert matched(table, ".".join("a" * 60) + ".b") == []


# -- headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2, "x-match": "any"}, {"a": 1}, True),
        ({"a": 1, "x-match": "any"}, {"a": 2}, False),
        ({"a": None}, {"a": "whatever"}, True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": Decimal(1)}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": 1, "x-b": 2}, {"a": 1}, True),
        ({"a": 1, "x-b": 2, "x-match": "all-with-x"}, {"a": 1}, False),
        ({"a": 1, "x-b": 2, "x-match": "all-with-x"}, {"a": 1, "x-b": 2}, True),
        ({"a": 1, "x-b": 2, "x-match": "any"}, {"x-b": 2}, False),
        ({"a": 1, "x-b": 2, "x-match": "any-with-x"}, {"x-b": 2}, True),
        ({"a": [1, "b"]}, {"a": [1, "b"]}, True),
    ],
)
def test_headers_follow_the_truth_table(
    arguments: dict[str, Any], headers: dict[str, Any], expected: bool
) -> None:
    table = filled(HeadersTable({}), bind("q", "the key means nothing", arguments))
    assert matched(table, "k", headers) == (["q"] if expected else [])


@pytest.mark.parametrize("mode", ["ALL", "", 1, None, b"all"])
def test_an_unknown_x_match_is_refused(mode: object) -> None:
    with pytest.raises(PreconditionFailedError, match="x-match"):
        HeadersTable({}).validate(bind("q", "", {"x-match": mode}))


@pytest.mark.parametrize("mode", ["all", "any", "all-with-x", "any-with-x"])
def test_a_known_x_match_is_accepted(mode: str) -> None:
    HeadersTable({}).validate(bind("q", "", {"x-match": mode}))
