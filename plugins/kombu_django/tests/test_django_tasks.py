"""Django's Tasks framework over kombu_core: from enqueue to the worker's end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.utils import timezone

from kombu_core import Connection
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.harness import until
from kombu_django.sharing import close_shared
from kombu_django.task_framework import (
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from plugins.kombu_django.tests import sample_tasks
from plugins.kombu_django.tests.databases import ended, fork
from plugins.kombu_django.tests.sample_tasks import (
    add,
    add_in_memory,
    done,
    fail,
    introduce,
    linger,
    wait_a_moment,
)


@pytest.fixture(autouse=True)
def _clean(sqlite_alias: str) -> Iterator[None]:
    done.clear()
    yield
    work("default")


def work(backend: str, *more: str) -> str:
    """Run a worker until nothing is left; what it says."""
    out = StringIO()
    call_command("kombu_tasks", "--backend", backend, "--until-empty", *more, stdout=out)
    return out.getvalue().strip()


def test_a_task_runs_in_a_worker() -> None:
    seen: list[tuple[str, str]] = []

    def note(kind: str) -> Any:
        return lambda sender, task_result, **_: seen.append((kind, task_result.id))

    notes = {
        signal_: note(name)
        for name, signal_ in (
            ("enqueued", task_enqueued),
            ("started", task_started),
            ("finished", task_finished),
        )
    }
    for signal_, receiver in notes.items():
        signal_.connect(receiver)
    try:
        result = add.enqueue(2, b=3)
        assert result.status == TaskResultStatus.READY
        assert work("default") == "1 done, 0 failed"
    finally:
        for signal_, receiver in notes.items():
            signal_.disconnect(receiver)
    assert done == [5]
    assert seen == [(kind, result.id) for kind in ("enqueued", "started", "finished")]


def test_a_failure_is_reported_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[Any] = []

    def keep(sender: object, task_result: Any, **_: object) -> None:
        failures.append(task_result)

    task_finished.connect(keep)
    fail.enqueue("no luck")
    assert work("default") == "0 done, 1 failed"
    task_finished.disconnect(keep)
    assert failures[0].status == TaskResultStatus.FAILED
    assert failures[0].errors[0].exception_class is ValueError
    assert "no luck" in failures[0].errors[0].traceback
    assert work("default") == "0 done, 0 failed"


def test_priorities_contexts_and_coroutines() -> None:
    for priority in (-100, 0, 1, 100):
        add.using(priority=priority).enqueue(priority)
    introduced = introduce.using(priority=-50).enqueue()
    wait_a_moment.using(priority=-60).enqueue()
    assert work("default") == "6 done, 0 failed"
    assert done == [100, 1, 0, (introduced.id, 1), "async", -100]


def test_a_task_may_wait_for_its_time() -> None:
    add.using(run_after=timezone.now() + timedelta(seconds=0.4)).enqueue(1)
    assert work("default") == "0 done, 0 failed"
    until(lambda: work("default") == "1 done, 0 failed")


def test_it_is_part_of_a_transaction() -> None:
    add.enqueue(0)
    with pytest.raises(KeyError), transaction.atomic(using="sqlite"):
        add.enqueue(1)
        raise KeyError
    with transaction.atomic(using="sqlite"):
        add.enqueue(2)
    assert work("default") == "2 done, 0 failed"
    assert done == [0, 2]


def test_another_transport(redis_server: BrokerServer) -> None:
    add_in_memory.enqueue(1)
    assert work("memory") == "1 done, 0 failed"
    options = {"URL": redis_server.url, "PREFIX": "django-tasks."}
    backend = "kombu_django.task_backend.KombuBackend"
    task_backends.settings["redis"] = {"BACKEND": backend, "OPTIONS": options}
    try:
        add.using(backend="redis").enqueue(2)
        assert work("redis") == "1 done, 0 failed"
    finally:
        del task_backends.settings["redis"]
    assert done == [1, 2]


def test_what_is_no_known_task_is_kept_apart(caplog: pytest.LogCaptureFixture) -> None:
    """A message is data: it may not name what is to be imported or called."""
    backend = task_backends["default"]
    add.enqueue(1)
    work("default")
    with Connection("django://sqlite") as connection:
        producer = connection.Producer(routing_key=backend.queue("default").name)
        producer.publish({"task": "os.getcwd", "args": [], "kwargs": {}})
        producer.publish({"task": f"{sample_tasks.__name__}.done.clear", "args": [], "kwargs": {}})
        producer.publish(["no", "task"])
        assert work("default") == "0 done, 3 failed"
        channel = connection.channel()
        assert [channel.basic_get(backend.failed.name) is not None for _ in range(4)] == [
            True, True, True, False,
        ]  # fmt: skip
        channel.queue_purge(backend.failed.name)
    assert done == [1]


def test_a_killed_worker_has_its_task_done_by_another(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    linger.enqueue(str(place))
    close_shared()
    connections.close_all()
    worker = fork(lambda: call_command("kombu_tasks", "--queue", "other"))
    until(place.exists)
    os.kill(worker, signal.SIGKILL)
    assert ended(worker) == -signal.SIGKILL
    until(lambda: work("default", "--queue", "other") == "1 done, 0 failed")
    assert len(place.read_text().split()) == 2


@pytest.mark.parametrize(
    ("options", "id_", "name"),
    [
        ([], "E006", "OPTIONS"),
        ({"URLL": "x"}, "E006", "URLL"),
        ({"URL": "nowhere"}, "E007", "URL"),
        ({"URL": "nope://"}, "E007", "nope"),
        ({"URL": 5}, "E007", "URL"),
        ({"RESULTS": "nope"}, "E009", "RESULTS"),
        ({"RESULTS": []}, "E009", "RESULTS"),
        ({"RESULT_EXPIRES": "a"}, "E010", "RESULT_EXPIRES"),
        ({"PREFIX": 5}, "E011", "PREFIX"),
        ({"TRANSPORT_OPTIONS": 5}, "E012", "TRANSPORT_OPTIONS"),
        ({"TRANSPORT_OPTIONS": {"leese": 5}}, "E012", "leese"),
    ],
)
def test_a_wrong_option_is_reported_and_refused(
    options: Any, id_: str, name: str, token: str
) -> None:
    values = {"BACKEND": "kombu_django.task_backend.KombuBackend", "OPTIONS": options}
    task_backends.settings[token] = values
    try:
        backend = task_backends[token]
        (found,) = backend.check()
        assert found.id == f"kombu_django.{id_}"
        assert name in found.msg
        for refused in (
            lambda: add.using(backend=token).enqueue(1),
            lambda: backend.get_result("x"),
            backend.connect,
        ):
            with pytest.raises(ImproperlyConfigured, match=name):
                refused()
        with pytest.raises(CommandError, match=name):
            work(token)
    finally:
        del task_backends.settings[token]


def test_a_right_configuration_is_not_reported() -> None:
    assert not list(task_backends["default"].check())


def test_a_wrong_queue_or_backend_is_an_error() -> None:
    with pytest.raises(CommandError, match="no nothing"):
        work("default", "--queue", "nothing")
    with pytest.raises(CommandError, match="nowhere"):
        work("nowhere")
