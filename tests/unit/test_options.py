"""Options: coerced by their annotations, unknown ones refused, secrets never quoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from kombu_core.exceptions import ConfigurationError
from kombu_core.options import parse_options
from kombu_core.url import Secret

SOURCE = "the options of the test transport"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    flag: bool = False
    count: int = 1
    wait: float = 1.0
    label: str = "x"
    limit: int | None = 5
    title: str | None = None
    mode: Literal["fast", "safe"] = "safe"
    either: int | str = 0
    password: Secret | None = None
    sasl_password: int = 0
    extra: Mapping[str, Any] | None = None
    anything: Any = None
    computed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count is negative")


@dataclass(frozen=True)
class Strict:
    name: str


def parse(**values: Any) -> Options:
    return parse_options(Options, values, source=SOURCE)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(("flag", text, True) for text in ("1", "true", "True", "YES", "on", True)),
        *(("flag", text, False) for text in ("0", "false", "No", "off", False)),
        ("count", "12", 12),
        ("count", 12, 12),
        ("wait", "1.5", 1.5),
        ("wait", 2, 2.0),
        ("label", "", ""),
        ("limit", "", None),
        ("limit", None, None),
        ("limit", "7", 7),
        ("title", "", ""),
        ("mode", "fast", "fast"),
        ("either", "7", 7),
        ("either", "seven", "seven"),
        ("password", "hidden", Secret("hidden")),
        ("password", Secret("hidden"), Secret("hidden")),
        ("extra", {"a": 1}, {"a": 1}),
        ("anything", object, object),
    ],
)
def test_a_value_takes_the_type_of_its_field(key: str, value: Any, expected: Any) -> None:
    found = getattr(parse(**{key: value}), key)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flag", "maybe"),
        ("flag", 2),
        ("flag", ""),
        ("count", "1.5"),
        ("count", 1.5),
        ("count", True),
        ("count", None),
        ("count", "9" * 5000),
        ("wait", "soon"),
        ("wait", "nan"),
        ("wait", float("inf")),
        ("wait", 10**400),
        ("label", 5),
        ("mode", "slow"),
        ("extra", "text"),
        ("extra", 5),
    ],
)
def test_a_bad_value_is_named_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{SOURCE}: {key} is "):
        parse(**{key: value})


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("wait", "abc", "wait is 'abc', which is not a number"),
        ("wait", None, "wait is None, which is not a number"),
        ("mode", "slow", "mode is 'slow', which is not one of fast, safe"),
        ("label", None, "label is None, which is not a text"),
        ("limit", "x", "limit is 'x', which is not a whole number"),
        ("flag", "maybe", "flag is 'maybe', which is not true or false"),
        ("extra", 5, "extra is 5, which is not of type Mapping"),
    ],
)
def test_a_bad_value_is_told_beside_what_is_wanted(key: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(**{key: value})
    assert str(caught.value) == f"{SOURCE}: {text}"


def test_unknown_options_are_named_beside_the_known() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option cuont \(known: .*count, .*"):
        parse(cuont=1)
    with pytest.raises(ConfigurationError, match="computed"):
        parse(computed=1)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(ConfigurationError, match="missing option name"):
        parse_options(Strict, {}, source=SOURCE)


def test_the_class_checks_what_it_likes() -> None:
    with pytest.raises(ConfigurationError, match=f"{SOURCE}: count is negative"):
        parse(count=-1)


def test_an_error_quotes_no_secret() -> None:
    for values in ({"sasl_password": "hunter2"}, {"password": ["hunter2"]}):
        with pytest.raises(ConfigurationError) as caught:
            parse(**values)
        assert "hunter2" not in repr(caught.value)
        assert caught.value.__context__ is None
