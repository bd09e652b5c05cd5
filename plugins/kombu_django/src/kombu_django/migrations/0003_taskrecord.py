"""The table of the results of tasks."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Results of Django's Tasks framework are kept."""

    dependencies = (("kombu_django", "0002_shorter_indexes"),)
    operations = (
        migrations.CreateModel(
            name="TaskRecord",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("backend", models.CharField(max_length=255)),
                ("task", models.TextField()),
                ("queue_name", models.CharField(max_length=255)),
                ("priority", models.SmallIntegerField()),
                ("run_after", models.DateTimeField(null=True)),
                ("args", models.TextField()),
                ("kwargs", models.TextField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("READY", "ready"),
                            ("RUNNING", "running"),
                            ("FAILED", "failed"),
                            ("SUCCESSFUL", "successful"),
                        ],
                        max_length=10,
                    ),
                ),
                ("return_value", models.TextField(default="null")),
                ("errors", models.TextField(default="[]")),
                ("worker_ids", models.TextField(default="[]")),
                ("enqueued_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("last_attempted_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(db_index=True, null=True)),
            ],
            options={
                "verbose_name": "task result",
                "default_permissions": ("delete", "view"),
            },
        ),
    )
