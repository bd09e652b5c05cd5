"""`manage.py kombu_tasks`: run what was enqueued with Django's Tasks framework."""

from __future__ import annotations

from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import autodiscover_modules

from kombu_core.exceptions import KombuError
from kombu_django.commands import consume, said, until_told_to_stop

#: Why no task can be run here, or nothing.
missing = ""
try:
    from kombu_django.task_backend import KombuBackend
    from kombu_django.task_framework import task_backends
    from kombu_django.task_worker import TaskWorker
except ImproperlyConfigured as error:  # No Tasks framework; --help needs none.
    missing = str(error)


class Command(BaseCommand):
    """Runs tasks."""

    help = (
        "Run the tasks that were enqueued with a KombuBackend of TASKS, one at a time, the "
        "highest priority first, until SIGTERM or ^C; then the running task is finished. Known "
        "are the tasks in the modules `tasks` of all apps; what else a message names goes to the "
        "queue tasks.failed (with PREFIX instead of `tasks.`, if it is set), and the worker logs "
        "why. A task that raises is not run again. Run several for speed. If one is killed, its "
        "task runs again in another one after the lease, so a task should be such that twice is "
        "once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--backend", default="default", metavar="ALIAS", help="of TASKS (%(default)s)"
        )
        parser.add_argument(
            "--queue",
            action="append",
            dest="names",
            metavar="NAME",
            help="one of the backend's QUEUES, may be repeated; without any: all",
        )
        parser.add_argument(
            "--import",
            action="append",
            default=[],
            dest="modules",
            metavar="MODULE",
            help="one more module with tasks, may be repeated",
        )
        parser.add_argument(
            "--until-empty", action="store_true", help="end when nothing comes any more"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if missing:
            raise CommandError(missing)
        try:
            backend = task_backends[options["backend"]]
            if not isinstance(backend, KombuBackend):
                raise CommandError(f"TASKS[{options['backend']!r}] is no KombuBackend")
            backend.require_options()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        unknown = sorted(set(options["names"] or ()) - backend.queues) if backend.queues else []
        if unknown:
            raise CommandError(f"QUEUES of {options['backend']!r} has no {', '.join(unknown)}")
        autodiscover_modules("tasks")
        for module in options["modules"]:
            import_module(module)
        worker = TaskWorker(backend)
        names = options["names"] or sorted(backend.queues)
        try:
            with until_told_to_stop() as stop, backend.connect() as connection:
                queues = [backend.queue(name) for name in names]
                for queue in (backend.failed, *queues):
                    queue(connection).declare()
                consume(
                    connection,
                    queues,
                    worker.handle,
                    worker.refuse,
                    stop,
                    prefetch=1,
                    until_empty=options["until_empty"],
                )
        except KombuError as error:
            raise said(error) from error
        self.stdout.write(f"{worker.handled} done, {worker.failed} failed")
