"""Whether Django is there to be used: said clearly, before anything of it is imported in vain."""

from __future__ import annotations

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from kombu_core.exceptions import ConfigurationError

APP = "kombu_django"


def require_django() -> None:
    """Raise ConfigurationError unless Django is set up and has this app."""
    if not settings.configured and not _has_settings_module():
        raise ConfigurationError(
            "Django has no settings: set DJANGO_SETTINGS_MODULE and call django.setup(), or run "
            "this as a management command (manage.py)"
        )
    if not apps.models_ready:
        raise ConfigurationError(
            "Django is not set up yet: call django.setup() before the first django:// connection, "
            "and make none while apps are being loaded"
        )
    if not apps.is_installed(APP):
        raise ConfigurationError(f"Add {APP!r} to INSTALLED_APPS, and run manage.py migrate")


def _has_settings_module() -> bool:
    try:
        _ = settings.INSTALLED_APPS
    except (ImportError, ImproperlyConfigured):
        return False
    return True
