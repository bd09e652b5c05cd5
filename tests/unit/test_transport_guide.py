"""The guide 'Write a transport' says what the code says: signatures, fields, groups."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kombu_core import hookspecs, message, plugin_template, plugins
from kombu_core.capabilities import StoreCapabilities
from kombu_core.testing.harness import BrokerUnderTest
from kombu_core.testing.store import methods
from kombu_core.transport import TransportParameters
from kombu_core.virtual import store
from kombu_core.virtual.store import Store

GUIDE = Path(__file__).resolve().parents[2] / methods.GUIDE
pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="not in this distribution")

HOOKS = [each for name, each in vars(hookspecs).items() if name.startswith("kombu_")]
STORE = [
    each
    for name, each in vars(Store).items()
    if inspect.isfunction(each) and not name.startswith("_")
]
VALUES = [
    each
    for module in (store, message)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, tuple) and each.__module__ == module.__name__
]


def heading(function: Callable[..., Any]) -> str:
    """Return the heading that a function has to have: its exact signature, without self."""
    text = str(inspect.signature(function)).replace("'", "")
    return f"### `{function.__name__}{re.sub(r'^[(]self(, )?', '(', text)}`"


@pytest.fixture(scope="module")
def guide() -> str:
    return GUIDE.read_text("utf-8")


def rows(guide: str, section: str) -> dict[str, str]:
    """Return the first cells of a section's tables, without the marks of code, and the second."""
    text = re.split(rf"^##+ {re.escape(section)}$", guide, flags=re.MULTILINE)[1]
    text = re.split(r"^##+ ", text, flags=re.MULTILINE)[0]
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {name: rest[0] for first, *rest in cells for name in re.findall(r"`(\w+)`", first)}


@pytest.mark.parametrize("function", HOOKS + STORE, ids=lambda each: each.__name__)
def test_each_hook_and_method_has_its_section(guide: str, function: Callable[..., Any]) -> None:
    assert heading(function) in guide.splitlines()


def test_no_section_is_about_what_is_not_there(guide: str) -> None:
    headings = re.findall(r"^### `\w+\(.*`$", guide, re.MULTILINE)
    assert sorted(headings) == sorted(heading(function) for function in HOOKS + STORE)


def test_the_methods_of_the_kit_are_those_of_the_protocol() -> None:
    assert sorted(methods.METHODS) == sorted(each.__name__ for each in STORE)


@pytest.mark.parametrize("value", VALUES, ids=lambda each: each.__name__)
def test_each_value_has_its_fields(guide: str, value: Any) -> None:
    there = rows(guide, "Values")[value.__name__]
    assert tuple(re.findall(r"`(\w+)`", there)) == value._fields


@pytest.mark.parametrize("value", VALUES, ids=lambda each: each.__name__)
def test_each_value_has_its_defaults(guide: str, value: Any) -> None:
    [row] = re.findall(rf"^\| `{value.__name__}` \|(.*)\|$", guide, re.MULTILINE)
    defaults = row.split("|")[1].replace("`", "")
    assert ast.literal_eval(f"[{defaults}]") == [*value._field_defaults.values()]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("4. Say what you cannot do", [each.name for each in fields(StoreCapabilities)]),
        ("5. Test", [each.name for each in fields(BrokerUnderTest)]),
        ("2. From a URL to a store", [*TransportParameters._fields]),
    ],
)
def test_each_field_has_its_row(guide: str, section: str, names: list[str]) -> None:
    assert [*rows(guide, section)] == names


def test_the_guide_knows_groups_and_the_contract(guide: str) -> None:
    assert f'[project.entry-points."{plugins.TRANSPORTS}"]' in guide
    assert f"`{plugins.EXTENSIONS}`" in guide
    assert f"KOMBU_CONTRACT = {hookspecs.CONTRACT_VERSION}" in guide
    assert plugin_template.GUIDE == methods.GUIDE


def test_every_link_of_the_guide_leads_somewhere(guide: str) -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", guide, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", guide)) <= anchors
