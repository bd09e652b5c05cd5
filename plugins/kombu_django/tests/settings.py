"""Settings of the tests; the databases are in the environment, so that peers have them too."""

from __future__ import annotations

import json
import os
from typing import Any

import django
import pymysql

# Django knows mysqlclient only, which has to be compiled; this has its names.
pymysql.install_as_MySQLdb()

#: Alias to settings, as JSON.
VARIABLE = "KOMBU_DJANGO_TEST_DATABASES"

SECRET_KEY = "for tests only"
USE_TZ = True
TIME_ZONE = "UTC"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "plugins.kombu_django.tests.urls"
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "kombu_django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")
_LEASE = {"TRANSPORT_OPTIONS": {"lease": 1.0}}
TASKS = {
    "default": {
        "BACKEND": "kombu_django.task_backend.KombuBackend",
        "QUEUES": ["default", "other"],
        "OPTIONS": {"URL": "django://sqlite", **_LEASE},
    },
    "memory": {
        "BACKEND": "kombu_django.task_backend.KombuBackend",
        "OPTIONS": {"URL": "memory://tasks"},
    },
}
DATABASES: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
DATABASES.setdefault("default", {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"})
