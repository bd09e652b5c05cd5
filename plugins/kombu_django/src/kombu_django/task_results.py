"""The results of tasks in a database: from a row to the framework's view, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import Q
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from kombu_django.models import TaskRecord
from kombu_django.task_framework import (
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)

#: What a row has as it is, and what it has as JSON.
_PLAIN = ("status", "enqueued_at", "started_at", "last_attempted_at", "finished_at")
_AS_JSON = ("args", "kwargs", "worker_ids")


class TaskResults:
    """The results of one backend's tasks.

    Args:
        using: Alias of the database.
        backend: Alias of the backend.
        expires: Seconds that a result is kept after the task's end; None: for ever.
        find: Returns a task by the path of its function, or None.
    """

    def __init__(
        self, using: str, backend: str, expires: float | None, find: Callable[[str], Any]
    ) -> None:
        self.using = using
        self._backend = backend
        self._expires = expires
        self._find = find

    def add(self, result: Any, path: str) -> None:
        """Write down that a task waits, in the transaction of this thread if there is one.

        Args:
            result: The framework's view.
            path: Of the task's function.
        """
        TaskRecord.objects.using(self.using).create(id=result.id, **self._values(result, path))

    def save(self, result: Any, path: str) -> None:
        """The same of what was written down before, or not, as after a rollback.

        Raises:
            LookupError: The id is that of a result of another backend, which stays as it is.
        """
        values = self._values(result, path)
        mine = {"id": result.id, "backend": self._backend}
        try:
            TaskRecord.objects.using(self.using).update_or_create(**mine, defaults=values)
        except IntegrityError as error:
            raise LookupError(f"its id {result.id} is that of another backend's task") from error

    def _values(self, result: Any, path: str) -> dict[str, Any]:
        task = result.task
        return {
            "backend": self._backend,
            "task": path,
            "queue_name": task.queue_name,
            "priority": task.priority,
            "run_after": task.run_after,
            "return_value": json.dumps(result._return_value),
            "errors": json.dumps([[e.exception_class_path, e.traceback] for e in result.errors]),
            "expires_at": self._end(result.finished_at),
            **{name: getattr(result, name) for name in _PLAIN},
            **{name: json.dumps(getattr(result, name)) for name in _AS_JSON},
        }

    def _end(self, finished: datetime | None) -> datetime | None:
        if finished is None or self._expires is None:
            return None
        return finished + timedelta(seconds=self._expires)

    def refuse(self, id_: str, reason: str) -> None:
        """Write down that a task failed because no worker could run it."""
        now = timezone.now()
        TaskRecord.objects.using(self.using).filter(
            id=id_, backend=self._backend, finished_at=None
        ).update(
            status=TaskResultStatus.FAILED,
            errors=json.dumps([["builtins.LookupError", reason]]),
            finished_at=now,
            expires_at=self._end(now),
        )

    def forget(self, id_: str) -> None:
        """Delete a result."""
        TaskRecord.objects.using(self.using).filter(id=id_, backend=self._backend).delete()

    def continued(self, result: Any) -> Any:
        """Give what comes to be run what is known of earlier attempts; returns it."""
        try:
            known = self.get(result.id)
        except TaskResultDoesNotExist:
            return result
        for name in ("task", "enqueued_at", "started_at", "worker_ids", "errors"):
            object.__setattr__(result, name, getattr(known, name))
        return result

    def get(self, id_: str) -> Any:
        """Return a result as the framework shows it.

        Raises:
            TaskResultDoesNotExist: There is none, it expired, or its task is in no module `tasks`
                of the apps and was not imported.
        """
        fresh = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        found = TaskRecord.objects.using(self.using).filter(fresh, id=id_, backend=self._backend)
        record = found.first()
        if record is None:
            raise TaskResultDoesNotExist(id_)
        task = self._find(record.task)
        if task is None:
            # By the apps' names, never by what a row says.
            autodiscover_modules("tasks")
            task = self._find(record.task)
        if task is None:
            raise TaskResultDoesNotExist(f"{id_}: {record.task!r} is not known in this process")
        return _shown(record, task)

    def tidy(self) -> int:
        """Delete what expired; returns how many there were."""
        found = TaskRecord.objects.using(self.using).filter(expires_at__lte=timezone.now())
        deleted: int = found.delete()[0]
        return deleted


def _shown(record: Any, task: Any) -> Any:
    values = {name: getattr(record, name) for name in _PLAIN}
    values |= {name: json.loads(getattr(record, name)) for name in _AS_JSON}
    values["status"] = TaskResultStatus(record.status)
    result = TaskResult(
        task=task.using(
            priority=record.priority, queue_name=record.queue_name, run_after=record.run_after
        ),
        id=record.id,
        backend=record.backend,
        errors=[
            TaskError(exception_class_path=path, traceback=text)
            for path, text in json.loads(record.errors)
        ],
        **values,
    )
    object.__setattr__(result, "_return_value", json.loads(record.return_value))
    return result
