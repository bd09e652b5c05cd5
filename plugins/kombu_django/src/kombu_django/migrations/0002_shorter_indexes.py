"""Indexes of the messages without the rows that nobody looks for there."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def shorten(apps: Any, schema_editor: Any) -> None:
    """Leave out of two indexes what nobody looks for there, where the database can.

    The models do not say it: others would warn of it each time.
    """
    if schema_editor.connection.vendor in ("postgresql", "sqlite"):
        for name, columns, kept in (
            ("kombu_django_delayed", "queue, available_at", "available_at"),
            ("kombu_django_claimed", "claimed_by", "claimed_by"),
        ):
            schema_editor.execute(f"DROP INDEX {name}")
            schema_editor.execute(
                f"CREATE INDEX {name} ON kombu_django_message ({columns}) WHERE {kept} IS NOT NULL"
            )


class Migration(migrations.Migration):
    """Less to write for each message."""

    dependencies = (("kombu_django", "0001_initial"),)
    operations = (migrations.RunPython(shorten, migrations.RunPython.noop),)
