"""The names that the package exports are all there, and no more are promised."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kombu_core


def test_every_public_name_can_be_imported() -> None:
    for name in kombu_core.__all__:
        assert getattr(kombu_core, name) is not None
    assert sorted(kombu_core.__all__) == kombu_core.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        kombu_core.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_all_names_are_listed_before_they_are_used() -> None:
    program = "import kombu_core as k; print(set(k.__all__) <= set(dir(k)), 'Queue' in vars(k))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]
