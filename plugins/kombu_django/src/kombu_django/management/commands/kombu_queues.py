"""`manage.py kombu_queues`: what is in the queues."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kombu_django.commands import add_database, ready_alias
from kombu_django.overview import QueueOverview, overviews


class Command(BaseCommand):
    """Shows depth, age and consumers."""

    help = (
        "List the queues of a database: how many messages are ready, delayed (they become ready "
        "later) and unacknowledged (a consumer has them), the age in seconds of the oldest that "
        "no consumer has, and how many consumers there are. Changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_database(parser)
        parser.add_argument(
            "names", nargs="*", metavar="QUEUE", help="only these queues; without any: all"
        )
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        using = ready_alias(options)
        found = overviews(using)
        if options["names"]:
            unknown = sorted(set(options["names"]) - {one.name for one in found})
            if unknown:
                raise CommandError(f"There is no queue {', '.join(unknown)} in {using!r}")
            found = [one for one in found if one.name in options["names"]]
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(one) for one in found], indent=1))
            return
        rows = [("queue", "ready", "delayed", "unacked", "oldest", "consumers")]
        rows += [
            (
                one.name,
                str(one.ready),
                str(one.delayed),
                str(one.claimed),
                "-" if one.oldest is None else f"{one.oldest:.0f} s",
                str(len(one.consumers)),
            )
            for one in found
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for name, *numbers in rows:
            cells = [n.rjust(width) for n, width in zip(numbers, widths[1:], strict=True)]
            self.stdout.write("  ".join([name.ljust(widths[0]), *cells]))


def _as_dict(one: QueueOverview) -> dict[str, Any]:
    found = asdict(one)
    del found["record"]
    return {**found, "consumers": len(one.consumers)}
