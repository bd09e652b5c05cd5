"""The app: its name, and the system checks that it brings."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from kombu_django.checks import check_databases, check_settings, check_sqlite, check_tasks


class KombuConfig(AppConfig):
    """`kombu_django` in INSTALLED_APPS."""

    name = "kombu_django"
    verbose_name = "Message queues"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        checks.register(check_settings)
        checks.register(check_tasks)
        checks.register(check_databases, checks.Tags.database)
        # Not with each migrate, which it does not concern.
        checks.register(check_sqlite, deploy=True)
