"""Running tasks: from a message to a call, with the framework's signals about it."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import traceback
from typing import Any, Final

from django.db import DataError, Error, close_old_connections
from django.utils import timezone

from kombu_core.message import Message
from kombu_django.task_backend import KombuBackend, new_result, path_of
from kombu_django.task_framework import (
    TaskContext,
    TaskError,
    TaskException,
    TaskResultStatus,
    task_finished,
    task_started,
)

logger = logging.getLogger(__name__)

#: Seconds between two looks for results that expired.
_TIDY: Final = 60.0
#: Characters of an id, and of a reason that is logged.
_LONGEST_ID: Final = 255
_LONGEST_REASON: Final = 1000
#: What comes of a message that somebody else has made; other errors of a database are its own.
_NO_TASK: Final = (LookupError, TypeError, ValueError, RecursionError, DataError, TaskException)


class TaskWorker:
    """Runs the tasks of one backend, each once it comes; counts how they ended."""

    def __init__(self, backend: KombuBackend) -> None:
        self._backend = backend
        self._results = backend.results
        self._tidied = -_TIDY
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self.handled = 0
        self.failed = 0

    def handle(self, body: Any, message: Message) -> None:
        """Run what a message asks for, and acknowledge it, however the task ends.

        A message that is no known task is rejected: it goes to the queue of the failed.
        """
        close_old_connections()
        try:
            result = self._begun(body, message)
        except _NO_TASK as error:
            self.refuse(message, error)
            return
        try:
            self._run(result)
            with self._backend.together():
                self._keep(result)
                message.ack()
        finally:
            close_old_connections()
        task_finished.send(type(self._backend), task_result=result)
        if result.status == TaskResultStatus.SUCCESSFUL:
            self.handled += 1
        else:
            self.failed += 1
        self._tidy()

    def refuse(self, message: Message, error: Exception) -> None:
        """Reject a message that is no task, and say so where its result is looked for."""
        reason = f"A message is no task: {error}"[:_LONGEST_REASON]
        logger.error("%s", reason)
        self.failed += 1
        with self._backend.together():
            if self._results is not None:
                self._results.refuse(_id_of(message), reason)
            message.reject()

    def _keep(self, result: Any) -> None:
        if self._results is not None:
            self._results.save(result, path_of(result.task))

    def _tidy(self) -> None:
        """Delete results that expired, now and then; the task is done whether that works or not."""
        if self._results is None or time.monotonic() < self._tidied + _TIDY:
            return
        self._tidied = time.monotonic()
        try:
            self._results.tidy()
        except Error as error:
            logger.warning("Results that expired are deleted later: %s", error)
        finally:
            close_old_connections()

    def _begun(self, body: Any, message: Message) -> Any:
        """Return the result of a task that begins now, written down."""
        result = self._understood(body, message)
        now = timezone.now()
        first = result.started_at or now
        _set(result, status=TaskResultStatus.RUNNING, started_at=first, last_attempted_at=now)
        result.worker_ids.append(self._name)
        self._keep(result)
        return result

    def _understood(self, body: Any, message: Message) -> Any:
        path, args, kwargs = body["task"], body["args"], body["kwargs"]
        task = self._backend.find(path)
        if task is None:
            raise LookupError(f"there is no task {path!r} in this process")
        id_ = _id_of(message)
        if not id_:
            raise LookupError("it has no id, or one that no task has")
        result = new_result(task, id_, args, kwargs, self._backend.alias)
        return result if self._results is None else self._results.continued(result)

    def _run(self, result: Any) -> None:
        task = result.task
        task_started.send(type(self._backend), task_result=result)
        context = [TaskContext(task_result=result)] if task.takes_context else []
        try:
            value = task.call(*context, *result.args, **result.kwargs)
            if self._results is not None:
                value = json.loads(json.dumps(value))  # As it will be read.
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


def _id_of(message: Message) -> str:
    """Return a message's id, or nothing if it is none that every database keeps as it is."""
    found = message.properties.get("message_id")
    if not (isinstance(found, str) and found.isascii() and found.isprintable()):
        return ""
    return found if len(found) <= _LONGEST_ID else ""


def _set(result: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)  # The framework's own backends do it so.
