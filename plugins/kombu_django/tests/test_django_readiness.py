"""Without Django's settings, or before it is set up, the transport says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys

import django
import pytest

SETTINGS = """
from django.conf import settings
settings.configure(INSTALLED_APPS={apps!r}, DATABASES={{}})
"""
CONNECT = """
from kombu_core import Connection
from kombu_core.exceptions import PluginLoadError
try:
    Connection("django://").connect()
except PluginLoadError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("", "set DJANGO_SETTINGS_MODULE and call django.setup()"),
        (SETTINGS.format(apps=["kombu_django"]), "call django.setup() before"),
        (
            SETTINGS.format(apps=[]) + "import django; django.setup()",
            "Add 'kombu_django' to INSTALLED_APPS",
        ),
    ],
)
def test_it_says_what_is_missing(before: str, text: str) -> None:
    away = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    done = subprocess.run(
        [sys.executable, "-c", before + CONNECT], env=away, capture_output=True, text=True
    )
    assert text in done.stdout, done.stderr


WITHOUT_TASKS = """
import sys
sys.modules["django_tasks"] = None  # As where it is not installed.
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["kombu_django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "x"}},
    TASKS={"default": {"BACKEND": "kombu_django.task_backend.KombuBackend", "OPTIONS": {"X": 1}}},
)
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="Django has the framework since 6.0")
@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["kombu_tasks", "--help"], ["usage: manage.py kombu_tasks"]),
        (["kombu_tasks", "--skip-checks"], ["CommandError: ", "pip install django-tasks"]),
        (["check"], ["(kombu_django.E006)", "(kombu_django.E013)", "pip install django-tasks"]),
    ],
)
def test_without_a_tasks_framework_it_says_where_to_get_it(
    arguments: list[str], texts: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TASKS, *arguments], capture_output=True, text=True
    )
    for text in texts:
        assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
