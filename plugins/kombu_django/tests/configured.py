"""Django, configured: import this before anything of its models. Peers of the kit do, too."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from plugins.kombu_django.tests.settings import VARIABLE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plugins.kombu_django.tests.settings")
django.setup()

# What makes the connections of the kit, in its peers as well.
from kombu_core.connection import Connection  # noqa: E402
from kombu_django.sharing import close_shared  # noqa: E402

__all__ = ["Connection", "add_database", "close_shared", "from_url", "remove_database"]

_ENGINES = {"postgresql": "postgresql", "mysql": "mysql"}


def add_database(alias: str, *, migrate: bool = True, **values: Any) -> None:
    """Add a database for this process and those that it will start, and create its tables."""
    known: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
    os.environ[VARIABLE] = json.dumps({**known, alias: values})
    settings.DATABASES[alias] = dict(values)
    connections.settings = connections.configure_settings(settings.DATABASES)
    if migrate:
        call_command("migrate", database=alias, verbosity=0)
    connections[alias].close()


def remove_database(alias: str) -> None:
    """Forget a database that was added."""
    connections[alias].close()
    del connections[alias]
    known: dict[str, Any] = json.loads(os.environ[VARIABLE])
    del known[alias]
    os.environ[VARIABLE] = json.dumps(known)
    del settings.DATABASES[alias]
    connections.settings = connections.configure_settings(settings.DATABASES)


def from_url(url: str) -> dict[str, Any]:
    """Return Django's settings for the URL of a server."""
    parts = urlsplit(url)
    return {
        "ENGINE": f"django.db.backends.{_ENGINES[parts.scheme]}",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": parts.path.strip("/"),
    }
