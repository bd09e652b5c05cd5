"""Without Django's settings, or before it is set up, the transport says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys

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
