"""Handlers for `kombu_consume` in the tests."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group

from kombu_core import Message


def save_group(body: Any, message: Message) -> None:
    """Save a row; fail on some."""
    Group.objects.using("sqlite").create(name=body["name"])
    if body.get("fails"):
        raise ValueError("as it was told")
