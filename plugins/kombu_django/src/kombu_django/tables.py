"""Whether a database has the tables of this app: said clearly, before a statement fails."""

from __future__ import annotations

from django.db import Error, connections

from kombu_core.exceptions import ConfigurationError
from kombu_django.models import WriteLock


def require_alias(alias: str) -> None:
    """Raise ConfigurationError unless DATABASES has this alias."""
    if alias not in connections.settings:
        raise ConfigurationError(
            f"DATABASES has no {alias!r}; it has {', '.join(sorted(connections.settings))}"
        )


def has_tables(using: str) -> bool:
    """Tell whether the tables are there.

    Raises:
        django.db.Error: The database cannot be asked.
    """
    connection = connections[using]
    try:
        WriteLock.objects.using(using).exists()
    except Error:
        with connection.cursor() as cursor:
            if WriteLock._meta.db_table not in connection.introspection.table_names(cursor):
                return False
        raise
    return True


def missing_tables(alias: str) -> ConfigurationError:
    """Return the error that says how the tables come into a database."""
    return ConfigurationError(
        f"The database {alias!r} has no tables of kombu_django: run "
        f"manage.py migrate kombu_django --database {alias}; if a router says no to that, it "
        f"has to say yes in allow_migrate for the database that has the queues"
    )
