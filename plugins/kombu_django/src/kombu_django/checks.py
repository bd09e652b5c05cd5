"""System checks: what `manage.py check` says of a wrong configuration."""

from __future__ import annotations

from typing import Any


def check_settings(**_: Any) -> list[Any]:
    """Return what is wrong."""
    return []
