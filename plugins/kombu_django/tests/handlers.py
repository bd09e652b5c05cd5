"""Handlers for `kombu_consume` in the tests."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group

from kombu_core import Message
from plugins.kombu_django.tests.databases import cut


def save_group(body: Any, message: Message) -> None:
    """Save a row; fail on some."""
    Group.objects.using(body.get("alias", "sqlite")).create(name=body["name"])
    if body.get("fails"):
        raise ValueError("as it was told")


#: What `break_once` broke under.
BROKEN: list[str] = []


def break_once(body: Any, message: Message) -> None:
    """Lose the connection in the middle of the transaction; the next time do as `save_group`."""
    save_group(body, message)
    if body["name"] not in BROKEN:
        BROKEN.append(body["name"])
        cut(body["alias"])
        Group.objects.using(body["alias"]).count()
