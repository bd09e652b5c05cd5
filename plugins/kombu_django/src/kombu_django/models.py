"""The tables: documents, messages, sessions, and a row that writers of documents wait for.

Times are microseconds since 1970 by the database's clock. The id of a message is never used twice.
"""

from __future__ import annotations

from django.db import models

from kombu_core.virtual.tables import CLAIMED, DELAYED, READY
from kombu_django.fields import NameField

#: A document's key may hold three quoted names.
_KEY_BYTES = 3000


class Document(models.Model):
    """An exchange, a binding, a queue or a consumer, and the version to guard it by."""

    name = NameField(primary_key=True, size=_KEY_BYTES)
    version = models.BigIntegerField()
    value = models.BinaryField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.name)


class Message(models.Model):
    """One message of one queue; deleted when it is acknowledged."""

    class State(models.IntegerChoices):
        READY = READY, "ready"
        DELAYED = DELAYED, "delayed"
        CLAIMED = CLAIMED, "claimed"

    id = models.BigAutoField(primary_key=True)
    queue = NameField()
    state = models.SmallIntegerField(choices=State.choices)
    #: 255 - priority: the smallest is next.
    level = models.SmallIntegerField()
    deliveries = models.BigIntegerField(default=0)
    claimed_by = NameField(null=True)
    put_at = models.BigIntegerField()
    #: When it became ready, or will: its place among those of its level.
    place = models.BigIntegerField()
    #: Of delayed ones only.
    available_at = models.BigIntegerField(null=True)
    expires_at = models.BigIntegerField(null=True)
    #: Of the application's body, which is the end of `body`.
    size = models.BigIntegerField()
    body = models.BinaryField()

    class Meta:
        default_permissions = ("change", "delete", "view")
        indexes = (
            models.Index(
                fields=["queue", "state", "level", "place", "id"], name="kombu_django_in_order"
            ),
            models.Index(fields=["queue", "available_at"], name="kombu_django_delayed"),
            models.Index(fields=["claimed_by"], name="kombu_django_claimed"),
        )

    def __str__(self) -> str:
        return f"message {self.pk} of {self.queue}"


class Session(models.Model):
    """A connection that owns something, until the end of its lease; lapsed: to be cleaned up."""

    name = NameField(primary_key=True, size=_KEY_BYTES)
    lease_end = models.BigIntegerField()
    lapsed = models.BooleanField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.name)


class WriteLock(models.Model):
    """The row that who writes documents holds until the end of the transaction."""

    id = models.SmallIntegerField(primary_key=True)
    value = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return "the lock"


class Queue(Document):
    """A queue, as the admin shows it."""

    class Meta:
        proxy = True
        verbose_name = "queue"
        default_permissions = ("change", "delete", "view")

    def __str__(self) -> str:
        return str(self.name).partition("/")[2]


class TaskRecord(models.Model):
    """What became of a task of Django's Tasks framework; the lists and values are JSON."""

    class Status(models.TextChoices):
        READY = "READY", "ready"
        RUNNING = "RUNNING", "running"
        FAILED = "FAILED", "failed"
        SUCCESSFUL = "SUCCESSFUL", "successful"

    id = models.CharField(primary_key=True, max_length=255)
    #: Alias in TASKS, and path of the function.
    backend = models.CharField(max_length=255)
    task = models.TextField()
    queue_name = models.CharField(max_length=255)
    priority = models.SmallIntegerField()
    run_after = models.DateTimeField(null=True)
    args = models.TextField()
    kwargs = models.TextField()
    status = models.CharField(max_length=10, choices=Status.choices)
    return_value = models.TextField(default="null")
    #: Pairs of the path of an exception's class and a traceback.
    errors = models.TextField(default="[]")
    #: One for each attempt.
    worker_ids = models.TextField(default="[]")
    enqueued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    last_attempted_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True, db_index=True)

    class Meta:
        verbose_name = "task result"
        default_permissions = ("delete", "view")

    def __str__(self) -> str:
        return f"{self.task} {self.pk}"
