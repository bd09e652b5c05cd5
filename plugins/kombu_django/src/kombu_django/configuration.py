"""The setting `KOMBU`: a dict, all of whose keys may be left out.

    KOMBU = {
        "OPTIONS": {"lease": 30},                 # of django:// connections made by this app
        "DATABASES": {"other": {"lease": 10}},    # the same for one alias
        "REDACT": "myproject.privacy.redact",     # what the admin shows of a body; None: nothing
    }

`REDACT` is called with the queue's name and a text, and returns the text to show. The text is that
of a message's body, or JSON of its properties or its headers; for the result of a task, whose queue
is named with the prefix as that of its message, JSON of what is called as in the message, or of the
return value, or the tracebacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Final

import django
from django.conf import settings
from django.utils.module_loading import import_string

#: What the names of the queues of tasks begin with.
TASK_PREFIX: Final = "tasks."

#: What to do before Django 6.0.
FRAMEWORK_MISSING: Final = (
    "Django before 6.0 has no Tasks framework: pip install django-tasks, and add 'django_tasks' to "
    "INSTALLED_APPS"
)

KNOWN: Final = frozenset({"OPTIONS", "DATABASES", "REDACT"})


def configured() -> Mapping[str, Any]:
    """Return the setting."""
    found: Mapping[str, Any] = getattr(settings, "KOMBU", {})
    return found


def transport_options(alias: str) -> dict[str, Any]:
    """Return the options of the transport for a database."""
    found = configured()
    return {**found.get("OPTIONS", {}), **found.get("DATABASES", {}).get(alias, {})}


def redaction() -> Callable[[str, str], str] | None:
    """Return what makes a text that may be shown from a queue's name and a body's text.

    None: it may be shown as it is.
    """
    found = configured().get("REDACT", "")
    if found is None:
        return lambda queue, text: ""
    if not found:
        return None
    made: Callable[[str, str], str] = import_string(found) if isinstance(found, str) else found
    return made


def has_task_framework() -> bool:
    """Tell whether Django's Tasks framework is installed, as part of Django or as a package."""
    return django.VERSION >= (6, 0) or find_spec("django_tasks") is not None


def task_queue(backend: str, name: str) -> str:
    """Return the name of the queue for one of the names of the Tasks framework.

    Args:
        backend: Alias of the backend; one that is not there any more had the default prefix.
        name: The framework's.
    """
    options = getattr(settings, "TASKS", {}).get(backend, {}).get("OPTIONS", {})
    return f"{options.get('PREFIX', TASK_PREFIX)}{name}"
