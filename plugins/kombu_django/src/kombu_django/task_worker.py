"""Running tasks: from a message to a call, with the framework's signals about it."""

from __future__ import annotations

import logging
import os
import socket
import traceback
from typing import Any

from django.db import close_old_connections
from django.utils import timezone

from kombu_core.message import Message
from kombu_django.task_backend import KombuBackend, new_result
from kombu_django.task_framework import (
    TaskContext,
    TaskError,
    TaskResultStatus,
    task_finished,
    task_started,
)

logger = logging.getLogger(__name__)


class TaskWorker:
    """Runs the tasks of one backend, each once it comes; counts how they ended."""

    def __init__(self, backend: KombuBackend) -> None:
        self._backend = backend
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self.handled = 0
        self.failed = 0

    def handle(self, body: Any, message: Message) -> None:
        """Run what a message asks for, and acknowledge it, however the task ends.

        A message that is no known task is rejected: it goes to the queue of the failed.
        """
        result = self._understood(body, message)
        if result is None:
            self.failed += 1
            message.reject()
            return
        close_old_connections()
        try:
            self._run(result)
        finally:
            close_old_connections()
        message.ack()
        if result.status == TaskResultStatus.SUCCESSFUL:
            self.handled += 1
        else:
            self.failed += 1

    def _understood(self, body: Any, message: Message) -> Any:
        try:
            path, args, kwargs = body["task"], body["args"], body["kwargs"]
            task = self._backend.find(path)
            if task is None:
                logger.error("There is no task %r in this process", path)
                return None
            id_ = message.properties.get("message_id") or ""
            return new_result(task, id_, args, kwargs, self._backend.alias)
        except (KeyError, TypeError, ValueError) as error:
            logger.error("A message is no task: %s", error)
            return None

    def _run(self, result: Any) -> None:
        task, now = result.task, timezone.now()
        _set(result, status=TaskResultStatus.RUNNING, started_at=now, last_attempted_at=now)
        result.worker_ids.append(self._name)
        task_started.send(type(self._backend), task_result=result)
        first = [TaskContext(task_result=result)] if task.takes_context else []
        try:
            value = task.call(*first, *result.args, **result.kwargs)
        except Exception as error:
            logger.exception("Task %s failed", result.id)
            kind = type(error)
            result.errors.append(
                TaskError(
                    exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
                    traceback="".join(traceback.format_exception(error)),
                )
            )
            _set(result, status=TaskResultStatus.FAILED)
        else:
            _set(result, status=TaskResultStatus.SUCCESSFUL, _return_value=value)
        _set(result, finished_at=timezone.now())
        task_finished.send(type(self._backend), task_result=result)


def _set(result: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)  # The framework's own backends do it so.
