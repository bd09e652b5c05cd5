"""`manage.py kombu_relay`: move the messages of an outbox to another broker."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kombu_core import Connection
from kombu_core.exceptions import ConfigurationError, KombuError
from kombu_core.outbox import DEFAULT_OUTBOX, FAILED, check_relay, relay
from kombu_core.url import BrokerURL
from kombu_django.commands import add_database, alias_of, at_least, said, until_told_to_stop
from kombu_django.configuration import transport_options
from kombu_django.transport import alias_of as alias_in


class Command(BaseCommand):
    """Relays an outbox."""

    help = (
        "Move what is published into an outbox of the database to another broker, in order, at "
        "least once, until SIGTERM or ^C. A message leaves the outbox after the other broker has "
        "confirmed it, and keeps its message_id however often it is sent, so that its consumers "
        "can tell a second one. Kill this at any moment: nothing is lost. If the broker is away, "
        "messages wait; what it does not take for good, as for an exchange that is not there or a "
        "routing key that no queue wants, goes to the queue OUTBOX" + FAILED + " with the reason "
        "in a header. Run several for speed; the order is then kept by none. Nor is it kept by "
        "one that follows one that was killed: what that one had comes back within its lease, "
        "behind what was sent meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_database(parser)
        parser.add_argument(
            "target",
            metavar="URL",
            help="the broker that gets the messages, as amqp://user@host//; or env:NAME for the "
            "URL in an environment variable, as arguments can be read by everybody on the machine",
        )
        parser.add_argument("--outbox", default=DEFAULT_OUTBOX, help="its queue (%(default)s)")
        parser.add_argument(
            "--batch",
            type=at_least(1),
            default=100,
            help="messages together, at most (%(default)s)",
        )
        parser.add_argument(
            "--until-empty",
            action="store_true",
            help="end when nothing is ready; what another relay has, or a killed one had until its "
            "lease runs out, is not waited for",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        alias = alias_of(options)
        own = f"django://{alias}"
        try:
            with (
                until_told_to_stop() as stop,
                Connection(own, transport_options=transport_options(alias)) as source,
                Connection(_url(options["target"])) as target,
            ):
                _refuse_itself(alias, target.url)
                check_relay(source, target, options["outbox"])
                self.stdout.write(
                    f"Moving the messages of {options['outbox']} from {source.as_uri()} to "
                    f"{target.as_uri()}"
                )
                self.stdout.flush()
                moved = relay(
                    source,
                    target,
                    options["outbox"],
                    batch=options["batch"],
                    until_empty=options["until_empty"],
                    stop=stop,
                )
        except KombuError as error:
            raise said(error) from error
        self.stdout.write(f"{moved} moved")


def _refuse_itself(alias: str, target: BrokerURL) -> None:
    """Raise ConfigurationError if the target is the source, however its URL is written."""
    if target.scheme == "django" and alias_in(target) == alias:
        raise ConfigurationError("The outbox and its target are the same database")


def _url(text: str) -> str:
    if not text.startswith("env:"):
        return text
    found = os.environ.get(text.removeprefix("env:"))
    if not found:
        raise CommandError(f"The environment has no {text.removeprefix('env:')}")
    return found
