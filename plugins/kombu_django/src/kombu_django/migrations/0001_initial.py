"""The tables: documents, messages, sessions, and the lock of who writes documents."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

from kombu_django.fields import NameField


def vacuum_often(apps: Any, schema_editor: Any) -> None:
    """Let PostgreSQL look after the messages: each of them is a dead row soon."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE kombu_django_message SET "
            "(autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)"
        )


class Migration(migrations.Migration):
    """The first release."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Document",
            fields=[
                ("name", NameField(primary_key=True, serialize=False, size=3000)),
                ("version", models.BigIntegerField()),
                ("value", models.BinaryField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="Session",
            fields=[
                ("name", NameField(primary_key=True, serialize=False, size=3000)),
                ("lease_end", models.BigIntegerField()),
                ("lapsed", models.BooleanField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="WriteLock",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("value", models.BigIntegerField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("queue", NameField()),
                (
                    "state",
                    models.SmallIntegerField(
                        choices=[(0, "ready"), (1, "delayed"), (2, "claimed")]
                    ),
                ),
                ("level", models.SmallIntegerField()),
                ("deliveries", models.BigIntegerField(default=0)),
                ("claimed_by", NameField(null=True)),
                ("put_at", models.BigIntegerField()),
                ("place", models.BigIntegerField()),
                ("available_at", models.BigIntegerField(null=True)),
                ("expires_at", models.BigIntegerField(null=True)),
                ("size", models.BigIntegerField()),
                ("body", models.BinaryField()),
            ],
            options={
                "default_permissions": ("change", "delete", "view"),
                "indexes": [
                    models.Index(
                        fields=["queue", "state", "level", "place", "id"],
                        name="kombu_django_in_order",
                    ),
                    models.Index(fields=["queue", "available_at"], name="kombu_django_delayed"),
                    models.Index(fields=["claimed_by"], name="kombu_django_claimed"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[],
            options={
                "verbose_name": "queue",
                "proxy": True,
                "default_permissions": ("change", "delete", "view"),
            },
            bases=("kombu_django.document",),
        ),
        migrations.RunPython(vacuum_often, migrations.RunPython.noop, elidable=True),
    )
