"""A backend of Django's Tasks framework that enqueues over any transport of kombu_core.

    TASKS = {
        "default": {
            "BACKEND": "kombu_django.task_backend.KombuBackend",
            "QUEUES": ["default", "slow"],
            "OPTIONS": {
                "URL": "django://",            # or amqp://..., redis://..., the default is this
                "TRANSPORT_OPTIONS": {},
                "PREFIX": "tasks.",            # what the names of the queues begin with
                "RESULTS": True,               # whether they are kept, or the alias of a database
                "RESULT_EXPIRES": 86400,       # seconds after the task's end; None: for ever
            },
        }
    }

`manage.py kombu_tasks` runs what was enqueued. Results are kept in the database that has the
queues; with another transport only if RESULTS says so, where the routers want them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.utils import timezone

from kombu_core.connection import Connection
from kombu_core.entity import Queue
from kombu_core.url import parse
from kombu_django.configuration import TASK_PREFIX, transport_options
from kombu_django.models import TaskRecord
from kombu_django.sharing import shared
from kombu_django.task_framework import (
    BaseTaskBackend,
    TaskResult,
    TaskResultStatus,
    task_enqueued,
)
from kombu_django.task_options import problems
from kombu_django.task_results import TaskResults
from kombu_django.transport import alias_of

#: The framework's priorities go from -100 to 100.
_LOWEST: Final = -100
_HIGHEST: Final = 100

#: Seconds.
_A_DAY: Final = 24 * 60 * 60.0

#: What may run, by alias of the backend and path of the function: what was defined in this
#: process. A message names one of these, and never a module to import.
_known: Final[dict[tuple[str, str], Any]] = {}


class KombuBackend(BaseTaskBackend):
    """Enqueues tasks as messages. In a transaction on `django://`, as part of it.

    With a wrong option it can be made, so that `manage.py check` can say what is wrong; then it
    enqueues nothing and connects to nothing.
    """

    supports_defer = True
    supports_async_task = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        given = params.get("OPTIONS", {})
        self._problems = problems(alias, given)
        # The framework's check asks backends that are wrong, too.
        self.options: Mapping[str, Any] = {} if self._problems else given
        self.url: str = self.options.get("URL", "django://")
        self.prefix: str = self.options.get("PREFIX", TASK_PREFIX)
        self.on_django = self.url.startswith("django:")
        self._kept: bool | str = self.options.get("RESULTS", self.on_django)
        #: What the framework asks: whether results are kept.
        self.supports_get_result = self._kept is not False

    def require_options(self) -> None:
        """Raise ImproperlyConfigured if an option is wrong."""
        if self._problems:
            raise ImproperlyConfigured("; ".join(str(problem.msg) for problem in self._problems))

    @cached_property
    def results(self) -> TaskResults | None:
        """The results; None: they are not kept."""
        if self._kept is False:
            return None
        using = str(self._kept)
        if self._kept is True:
            url = parse(self.url) if self.on_django else None
            using = alias_of(url) if url else router.db_for_write(TaskRecord) or DEFAULT_DB_ALIAS
        expires = self.options.get("RESULT_EXPIRES", _A_DAY)
        return TaskResults(using, self.alias, expires, self.find)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of what is done to a message and to a result, where that goes."""
        results = self.results
        if results is not None and self.on_django and alias_of(parse(self.url)) == results.using:
            with transaction.atomic(using=results.using):
                yield
        else:
            yield

    def validate_task(self, task: Any) -> None:
        """See Django's. Called when a task is defined, too: then it is known to the workers."""
        super().validate_task(task)
        _known.setdefault((self.alias, path_of(task)), task)

    def find(self, path: str) -> Any:
        """Return a task that was defined in this process, or None."""
        return _known.get((self.alias, path))

    def queue(self, name: str) -> Queue:
        """Return the queue for one of the framework's names."""
        return Queue(
            self.prefix + name,
            max_priority=_HIGHEST - _LOWEST,
            queue_arguments={
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.failed.name,
            },
        )

    @property
    def failed(self) -> Queue:
        """Where messages go that are no known task."""
        return Queue(f"{self.prefix}failed")

    def connect(self) -> Connection:
        """Return a new connection to the broker.

        Raises:
            ImproperlyConfigured: An option of the backend is wrong.
        """
        self.require_options()
        given = self.options.get("TRANSPORT_OPTIONS", {})
        options = {**transport_options(""), **given} if self.on_django else given
        return Connection(self.url, transport_options=options)

    def enqueue(self, task: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
        """Publish a task; returns when the broker has it.

        Raises:
            KombuError: It could not be published.
            TypeError: An argument cannot be written as JSON.
            ImproperlyConfigured: An option of the backend is wrong.
        """
        self.require_options()
        self.validate_task(task)
        result = new_result(task, uuid.uuid4().hex, args, kwargs, self.alias)
        body = {"task": path_of(task), "args": result.args, "kwargs": result.kwargs}
        moment = task.run_after
        if moment is not None and timezone.is_naive(moment):
            moment = timezone.make_aware(moment)
        now = timezone.now()
        object.__setattr__(result, "enqueued_at", now)
        queue = self.queue(task.queue_name)
        producer = shared(f"{self.alias} {self.url}", self.connect).Producer(serializer="json")
        for needed in (self.failed, queue):
            producer.maybe_declare(needed)
        with self.together(), self._recorded(result):
            producer.publish(
                body,
                routing_key=queue.name,
                exchange="",
                message_id=result.id,
                priority=task.priority - _LOWEST,
                deliver_at=moment,
                mandatory=True,
                timestamp=int(now.timestamp()),
            )
        task_enqueued.send(type(self), task_result=result)
        return result

    @contextmanager
    def _recorded(self, result: Any) -> Iterator[None]:
        """Write a result down before its message is there, and not if it could not be published."""
        if self.results is None:
            yield
            return
        self.results.add(result, path_of(result.task))
        try:
            yield
        except BaseException:
            if not connections[self.results.using].in_atomic_block:  # Else it is undone there.
                self.results.forget(result.id)
            raise

    def get_result(self, result_id: str) -> Any:
        """Return what is known of a task that was enqueued.

        Raises:
            TaskResultDoesNotExist: Nothing (any more).
            NotImplementedError: Results are not kept.
            ImproperlyConfigured: An option of the backend is wrong.
        """
        self.require_options()
        if self.results is None:
            return super().get_result(result_id)
        return self.results.get(str(result_id))

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Return what is wrong with the settings; connects to nothing."""
        return [*super().check(**kwargs), *self._problems]


def path_of(task: Any) -> str:
    """Return the name of a task's function, as messages have it."""
    return f"{task.func.__module__}.{task.func.__qualname__}"


def new_result(
    task: Any, id_: str, args: Iterable[Any], kwargs: Mapping[str, Any], alias: str
) -> Any:
    """Return the framework's view of a task that did not run yet."""
    return TaskResult(
        task=task,
        id=id_,
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=[],
        worker_ids=[],
    )
