"""The results of Django's Tasks: kept with their messages, found by id, gone in time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connections, transaction
from django.utils import timezone

from kombu_core import Connection
from kombu_core.exceptions import OperationalError
from kombu_core.testing.brokers import RedisServer
from kombu_core.testing.harness import until
from kombu_django.models import TaskRecord
from kombu_django.sharing import close_shared
from kombu_django.task_backend import KombuBackend, path_of
from kombu_django.task_framework import (
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_finished,
)
from plugins.kombu_django.tests.databases import ended, fork
from plugins.kombu_django.tests.sample_tasks import add, fail, introduce, linger, produce
from plugins.kombu_django.tests.test_django_tasks import work


@pytest.fixture
def backend(alias: str, token: str) -> Iterator[KombuBackend]:
    """A backend on a database, with queues of its own."""
    with using({"URL": f"django://{alias}", "TRANSPORT_OPTIONS": {"lease": 1.0}}, token) as found:
        yield found


class using:  # noqa: N801  (a context manager)
    """A backend with options, for as long as the block."""

    def __init__(self, options: dict[str, Any], token: str) -> None:
        self.name = token
        task_backends.settings[token] = {
            "BACKEND": "kombu_django.task_backend.KombuBackend",
            "QUEUES": ["default"],
            "OPTIONS": {"PREFIX": f"{token}.", **options},
        }

    def __enter__(self) -> KombuBackend:
        found: KombuBackend = task_backends[self.name]
        return found

    def __exit__(self, *_: object) -> None:
        del task_backends.settings[self.name]


def on(backend: KombuBackend, task: Any) -> Any:
    return task.using(backend=backend.alias, queue_name="default")


def test_a_result_comes_back(backend: KombuBackend) -> None:
    assert backend.supports_get_result
    moment = timezone.now() - timedelta(seconds=1)
    result = on(backend, add).using(priority=7, run_after=moment).enqueue(2, b=3)
    found = backend.get_result(result.id)
    assert found == result
    assert found.task == result.task
    assert found.status == TaskResultStatus.READY
    with pytest.raises(ValueError, match="not finished"):
        _ = found.return_value
    until(lambda: work(backend.alias) == "1 done, 0 failed")
    result.refresh()
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 5)
    assert result.attempts == 1
    assert result.enqueued_at < result.started_at == result.last_attempted_at < result.finished_at
    assert on(backend, add).get_result(result.id) == result
    found.refresh()
    assert found == result


def test_what_failed_tells_why(backend: KombuBackend, caplog: pytest.LogCaptureFixture) -> None:
    result = on(backend, fail).enqueue("no \x00 luck")
    work(backend.alias)
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    (error,) = result.errors
    assert error.exception_class is ValueError
    assert "no \x00 luck" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


@pytest.mark.parametrize(
    "value", [None, 0, "é \x00 \ud800", ["x", {"a": [1.5, None]}], "x" * 1_000_000]
)
def test_any_json_may_be_returned(backend: KombuBackend, value: object) -> None:
    result = on(backend, produce).enqueue(value)
    assert work(backend.alias) == "1 done, 0 failed"
    result.refresh()
    assert result.return_value == value


def test_what_is_no_json_is_a_failure(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture
) -> None:
    result = on(backend, produce).enqueue([], as_set=True)
    assert work(backend.alias) == "0 done, 1 failed"
    result.refresh()
    assert result.errors[0].exception_class is TypeError


@pytest.mark.parametrize("id_", ["x" * 256, "a\x00b", "line\nbreak", "\N{SNOWMAN}", ""])
def test_an_id_that_no_column_takes_stops_no_worker(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture, id_: str
) -> None:
    send(backend, {"task": path_of(add), "args": [1], "kwargs": {}}, message_id=id_)
    later = on(backend, add).enqueue(1, b=1)
    assert work(backend.alias) == "1 done, 1 failed"
    assert "A message is no task" in caplog.text
    later.refresh()
    assert later.return_value == 2
    assert failed(backend) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"task": ["x"], "args": [], "kwargs": {}},
        {"task": "x\x00y", "args": [], "kwargs": {}},
        {"task": path_of(add), "args": 5, "kwargs": {}},
        {"task": path_of(add), "args": [], "kwargs": [1]},
        {"task": path_of(add), "args": [datetime(2030, 1, 1, tzinfo=UTC)], "kwargs": {}},
        {"task": path_of(add)},
        None,
        [],
        "text",
        b"bytes",
    ],
)
def test_a_body_that_is_no_task_stops_no_worker(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture, body: object
) -> None:
    send(backend, body, message_id=backend.alias)
    on(backend, add).enqueue(1)
    assert work(backend.alias) == "1 done, 1 failed"
    assert "A message is no task" in caplog.text
    assert failed(backend) == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff", "application/json"),
        (b"x", "application/x-python-serialize"),
        (b"x", "no/such"),
    ],
)
def test_what_cannot_be_decoded_stops_no_worker(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture, body: bytes, kind: str
) -> None:
    send(backend, body, message_id=backend.alias, content_type=kind, content_encoding="utf-8")
    on(backend, add).enqueue(1)
    assert work(backend.alias) == "1 done, 1 failed"
    assert "A message is no task" in caplog.text
    assert failed(backend) == 1


def test_arguments_that_a_function_does_not_take_are_its_failure(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture
) -> None:
    called = {"task": path_of(add), "args": "abc", "kwargs": {"\x00": 1}}
    send(backend, called, message_id=backend.alias)
    assert work(backend.alias) == "0 done, 1 failed"
    assert backend.get_result(backend.alias).errors[0].exception_class is TypeError
    assert failed(backend) == 0


def test_a_result_of_a_queue_that_is_no_more_stops_no_worker(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture
) -> None:
    results = backend.results
    assert results is not None
    result = on(backend, add).enqueue(1)
    TaskRecord.objects.using(results.using).filter(id=result.id).update(queue_name="gone")
    on(backend, add).enqueue(2)
    assert work(backend.alias) == "1 done, 1 failed"
    assert "A message is no task" in caplog.text
    assert failed(backend) == 1


def send(backend: KombuBackend, body: object, **properties: Any) -> None:
    """Publish what somebody else might."""
    on(backend, add)  # Now it is known.
    with backend.connect() as connection:
        for queue in (backend.failed, backend.queue("default")):
            queue(connection).declare()
        producer = connection.Producer(routing_key=backend.queue("default").name)
        producer.publish(body, **properties)


def failed(backend: KombuBackend) -> int:
    """Return the number of messages that were no task."""
    with backend.connect() as connection:
        found = backend.failed(connection).queue_declare(passive=True)
        return int(found.message_count)


def test_results_that_cannot_be_tidied_are_no_failure(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that fails after the acknowledgement fails under no task."""
    seen: list[Any] = []
    results = backend.results
    assert results is not None

    def spoil(sender: object, task_result: Any, **_: object) -> None:
        seen.append(task_result.status)
        with connections[results.using].cursor() as cursor:
            cursor.execute("ALTER TABLE kombu_django_taskrecord RENAME TO kombu_django_hidden")

    task_finished.connect(spoil)
    result = on(backend, add).enqueue(1)
    try:
        said = work(backend.alias)
    finally:
        task_finished.disconnect(spoil)
        with connections[results.using].cursor() as cursor:
            cursor.execute("ALTER TABLE kombu_django_hidden RENAME TO kombu_django_taskrecord")
    assert said == "1 done, 0 failed"
    assert seen == [TaskResultStatus.SUCCESSFUL]
    assert "deleted later" in caplog.text
    result.refresh()
    assert result.return_value == 1


def test_it_is_there_if_and_only_if_the_message_is(backend: KombuBackend) -> None:
    using = backend.results.using if backend.results else ""
    on(backend, add).enqueue(0)  # Declares.
    with pytest.raises(KeyError), transaction.atomic(using=using):
        lost = on(backend, add).enqueue(1)
        raise KeyError
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result(lost.id)
    with transaction.atomic(using=using):
        kept = on(backend, add).enqueue(2)
    assert work(backend.alias) == "2 done, 0 failed"
    assert backend.get_result(kept.id).return_value == 2
    count = TaskRecord.objects.using(using).filter(backend=backend.alias).count()
    assert count == 2


def test_the_finished_signal_finds_it(backend: KombuBackend) -> None:
    seen: list[Any] = []

    def look(sender: object, task_result: Any, **_: object) -> None:
        seen.append(backend.get_result(task_result.id))

    task_finished.connect(look)
    try:
        on(backend, add).enqueue(1)
        work(backend.alias)
    finally:
        task_finished.disconnect(look)
    assert [result.return_value for result in seen] == [1]


def test_an_async_view_awaits_it(backend: KombuBackend) -> None:
    async def view() -> Any:
        result = await on(backend, introduce).aenqueue()
        found = await backend.aget_result(result.id)
        await found.arefresh()
        return found

    assert async_to_sync(view)().status == TaskResultStatus.READY
    work(backend.alias)


def test_each_attempt_counts(backend: KombuBackend, tmp_path: Path) -> None:
    place = tmp_path / "runs"
    result = on(backend, linger).enqueue(str(place))
    close_shared()
    connections.close_all()
    worker = fork(lambda: call_command("kombu_tasks", "--backend", backend.alias))
    until(place.exists)
    until(lambda: backend.get_result(result.id).status == TaskResultStatus.RUNNING)
    first = backend.get_result(result.id)
    os.kill(worker, signal.SIGKILL)
    assert ended(worker) == -signal.SIGKILL
    until(lambda: work(backend.alias) == "1 done, 0 failed")
    result.refresh()
    assert result.attempts == 2
    assert len(set(result.worker_ids)) == 2
    assert first.started_at == result.started_at < result.last_attempted_at


def test_they_expire(alias: str, token: str) -> None:
    options = {"URL": f"django://{alias}", "RESULT_EXPIRES": 0}
    with using(options, token) as backend:
        assert backend.results is not None
        waits = on(backend, add).enqueue(1)
        backend.results.tidy()
        assert backend.get_result(waits.id).status == TaskResultStatus.READY
        work(backend.alias)
        with pytest.raises(TaskResultDoesNotExist):
            backend.get_result(waits.id)
        assert not TaskRecord.objects.using(alias).filter(id=waits.id).exists()


def test_they_may_be_kept_for_ever(alias: str, token: str) -> None:
    with using({"URL": f"django://{alias}", "RESULT_EXPIRES": None}, token) as backend:
        result = on(backend, add).enqueue(1)
        work(backend.alias)
        assert TaskRecord.objects.using(alias).get(id=result.id).expires_at is None


def test_they_may_be_switched_off(alias: str, token: str) -> None:
    with using({"URL": f"django://{alias}", "RESULTS": False}, token) as backend:
        assert not backend.supports_get_result
        result = on(backend, add).enqueue(1)
        assert work(backend.alias) == "1 done, 0 failed"
        with pytest.raises(NotImplementedError):
            backend.get_result(result.id)
        assert not TaskRecord.objects.using(alias).filter(id=result.id).exists()


def test_another_transport_keeps_them_where_it_is_told(alias: str, token: str) -> None:
    with using({"URL": f"memory://{token}"}, token) as backend:
        assert not backend.supports_get_result
    token += "-kept"
    with using({"URL": f"memory://{token}", "RESULTS": alias}, token) as backend:
        result = on(backend, add).enqueue(4)
        assert work(backend.alias) == "1 done, 0 failed"
        result.refresh()
        assert result.return_value == 4


@pytest.mark.broker("redis")
def test_what_was_not_published_has_none(sqlite_alias: str, token: str) -> None:
    with (
        RedisServer() as server,
        using({"URL": server.url, "RESULTS": sqlite_alias}, token) as backend,
    ):
        on(backend, add).enqueue(1)
        server.kill()
        with pytest.raises(OperationalError):
            on(backend, add).enqueue(2)
        close_shared()
    assert TaskRecord.objects.using(sqlite_alias).filter(backend=token).count() == 1


def test_a_task_that_no_worker_knows_failed(
    backend: KombuBackend, caplog: pytest.LogCaptureFixture
) -> None:
    result = on(backend, add).enqueue(1)
    with Connection(backend.url) as connection:
        queue = backend.queue("default")
        queue(connection).purge()
        body = {"task": "os.getcwd", "args": [], "kwargs": {}}
        connection.Producer(routing_key=queue.name).publish(body, message_id=result.id)
        assert work(backend.alias) == "0 done, 1 failed"
        backend.failed(connection).purge()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert "os.getcwd" in result.errors[0].traceback


def test_a_row_names_nothing_to_import(backend: KombuBackend) -> None:
    assert backend.results is not None
    result = on(backend, add).enqueue(1)
    rows = TaskRecord.objects.using(backend.results.using).filter(id=result.id)
    rows.update(task="antigravity.fly")
    with pytest.raises(TaskResultDoesNotExist, match="not known"):
        backend.get_result(result.id)
    work(backend.alias)


@pytest.mark.parametrize(
    ("options", "id_"),
    [
        ({"RESULTS": "nowhere"}, "kombu_django.E009"),
        ({"RESULT_EXPIRES": "1d"}, "kombu_django.E010"),
        ({"RESULT_EXPIRES": -1}, "kombu_django.E010"),
    ],
)
def test_a_wrong_option_is_reported(options: dict[str, Any], id_: str) -> None:
    found = KombuBackend("x", {"OPTIONS": options}).check()
    assert [message.id for message in found] == [id_]


def test_a_message_changes_no_result_of_another_backend(
    alias: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"URL": f"django://{alias}", "TRANSPORT_OPTIONS": {"lease": 1.0}}
    with (
        using(options, token) as mine,
        using({**options, "PREFIX": f"{token}-theirs."}, f"{token}-theirs") as theirs,
    ):
        result = on(mine, add).enqueue(1)
        on(theirs, add)  # Its workers know the task.
        body = {"task": path_of(add), "args": [2], "kwargs": {}}
        for one in (body, ["no", "task"]):
            send(theirs, one, message_id=result.id)
        assert work(theirs.alias) == "0 done, 2 failed"
        assert "another backend" in caplog.text
        assert mine.get_result(result.id) == result
        assert work(mine.alias) == "1 done, 0 failed"
        result.refresh()
        assert result.return_value == 1
