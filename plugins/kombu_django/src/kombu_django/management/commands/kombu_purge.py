"""`manage.py kombu_purge`: empty queues."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kombu_django.commands import add_database, ready_alias
from kombu_django.operations import purge
from kombu_django.overview import overviews


class Command(BaseCommand):
    """Deletes the ready messages of queues."""

    help = (
        "Delete all ready messages of queues. What consumers have already and what is delayed "
        "stays, and so do the queues. The messages are lost: nothing is dead-lettered. Asks "
        "first, unless --no-input is given."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_database(parser)
        parser.add_argument("names", nargs="+", metavar="QUEUE", help="the queues to empty")
        parser.add_argument(
            "--no-input", "--noinput", action="store_false", dest="asks", help="do not ask"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        using = ready_alias(options)
        there = {one.name: one.ready for one in overviews(using)}
        unknown = [name for name in options["names"] if name not in there]
        if unknown:
            raise CommandError(f"There is no queue {', '.join(unknown)} in {using!r}")
        if options["asks"]:
            shown = ", ".join(f"{there[name]} of {name}" for name in options["names"])
            if input(f"Delete these messages: {shown}? Type 'yes' to go on: ") != "yes":
                raise CommandError("Nothing was deleted")
        for name in options["names"]:
            self.stdout.write(f"{name}: {purge(using, name)} deleted")
