"""System checks: what `manage.py check` says of a wrong configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import django
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import connections, router

from kombu_core.exceptions import ConfigurationError
from kombu_core.options import parse_options
from kombu_django.configuration import (
    FRAMEWORK_MISSING,
    KNOWN,
    has_task_framework,
    redaction,
)
from kombu_django.options import DjangoOptions
from kombu_django.task_options import BACKEND, problems

_OLDEST_MARIADB: Final = (10, 6)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Check the setting KOMBU. Connects to nothing."""
    found = getattr(settings, "KOMBU", {})
    if not isinstance(found, Mapping):
        return [Error("KOMBU has to be a dict", id="kombu_django.E001")]
    return [*_unknown(found), *_options(found), *_redaction()]


def _unknown(found: Mapping[str, Any]) -> Iterator[CheckMessage]:
    unknown = sorted(set(found) - KNOWN)
    if unknown:
        yield Error(
            f"KOMBU has unknown keys: {', '.join(unknown)}",
            hint=f"It knows {', '.join(sorted(KNOWN))}.",
            id="kombu_django.E001",
        )


def _options(found: Mapping[str, Any]) -> Iterator[CheckMessage]:
    places = {"KOMBU['OPTIONS']": found.get("OPTIONS", {})}
    databases = found.get("DATABASES", {})
    if not isinstance(databases, Mapping):
        yield Error("KOMBU['DATABASES'] has to be a dict of dicts", id="kombu_django.E003")
        databases = {}
    for alias, options in databases.items():
        places[f"KOMBU['DATABASES'][{alias!r}]"] = options
        if alias not in settings.DATABASES:
            yield Error(
                f"KOMBU['DATABASES'] has {alias!r}, and DATABASES does not",
                id="kombu_django.E003",
            )
    for place, options in places.items():
        if not isinstance(options, Mapping):
            yield Error(f"{place} has to be a dict", id="kombu_django.E002")
            continue
        try:
            parse_options(DjangoOptions, options, source=place)
        except ConfigurationError as error:
            yield Error(str(error), id="kombu_django.E002")


def _redaction() -> Iterator[CheckMessage]:
    try:
        made = redaction()
    except ImportError as error:
        yield Error(f"KOMBU['REDACT'] cannot be imported: {error}", id="kombu_django.E004")
        return
    if made is not None and not callable(made):
        yield Error("KOMBU['REDACT'] cannot be called", id="kombu_django.E004")


def check_tasks(**_: Any) -> list[CheckMessage]:
    """Check the backends of tasks where the framework does not, not being an installed app."""
    tasks = getattr(settings, "TASKS", {})
    if django.VERSION >= (6, 0) or apps.is_installed("django_tasks"):
        return []
    found: list[CheckMessage] = []
    for alias, values in tasks.items() if isinstance(tasks, Mapping) else ():
        if isinstance(values, Mapping) and values.get("BACKEND") == BACKEND:
            found += problems(alias, values.get("OPTIONS", {}))
            if not has_task_framework():
                found.append(
                    Error(f"TASKS[{alias!r}]: {FRAMEWORK_MISSING}", id="kombu_django.E013")
                )
    return found


def check_databases(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check the databases that `manage.py check --database ALIAS` names."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor == "sqlite":
            if str(connection.settings_dict["NAME"]) == ":memory:":
                found.append(
                    Error(
                        f"The database {alias!r} is in the memory of one connection: it has no "
                        "queues",
                        hint="Use one in a file, or memory:// as the transport.",
                        id="kombu_django.E008",
                    )
                )
        elif connection.vendor == "mysql" and connection.mysql_is_mariadb:
            if tuple(connection.mysql_version)[:2] < _OLDEST_MARIADB:
                found.append(
                    checks.Warning(
                        f"The MariaDB of {alias!r} is older than 10.6: its consumers wait for "
                        "each other",
                        id="kombu_django.W002",
                    )
                )
        elif not connection.features.has_select_for_update:
            found.append(
                Error(
                    f"The database {alias!r} cannot lock rows, so several consumers might get "
                    "one message",
                    id="kombu_django.E005",
                )
            )
    return found


def check_sqlite(**_: Any) -> list[CheckMessage]:
    """Check how transactions begin on SQLite; for `manage.py check --deploy`."""
    found: list[CheckMessage] = []
    for alias in connections.settings:
        connection = connections[alias]
        if (
            connection.vendor != "sqlite"
            or connection.is_in_memory_db()
            or not router.allow_migrate(alias, "kombu_django")
        ):
            continue
        mode = str(connection.settings_dict["OPTIONS"].get("transaction_mode") or "")
        if mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
            found.append(
                checks.Warning(
                    f"A transaction on {alias!r} that reads before it publishes may fail with "
                    "'database is locked'",
                    hint="Set OPTIONS['transaction_mode'] to 'IMMEDIATE' in DATABASES (Django "
                    "5.1), or write in a transaction before you read.",
                    id="kombu_django.W003",
                )
            )
    return found
