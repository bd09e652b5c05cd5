"""`manage.py kombu_consume`: call a function of the project for each message of queues."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections, transaction
from django.utils.module_loading import import_string

from kombu_core import Connection, Message, Queue
from kombu_core.exceptions import KombuError, LeaseLostError
from kombu_django.commands import (
    FAILURES,
    add_database,
    alias_of,
    at_least,
    consume,
    said,
    until_told_to_stop,
)
from kombu_django.configuration import transport_options

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """Consumes."""

    help = (
        "Call HANDLER(body, message) for each message of the queues, one at a time, until SIGTERM "
        "or ^C. The handler runs in transaction.atomic(), and the message is acknowledged in the "
        "same transaction when it returns: what the handler does to the database and the "
        "acknowledgement happen both or not at all, so the effect happens once. If it raises, all "
        "of it is rolled back and the message is rejected: it goes to the queue's dead letters if "
        "there are any, and IS LOST otherwise; with --requeue it comes again, and so it does when "
        "it was the database that failed (OperationalError, InterfaceError). Failures are logged "
        "and counted in the last line; the exit status is 0 nevertheless. The handler may also "
        "settle the message itself, as with message.reject(). Run it several times for speed. "
        "What it took ahead (--prefetch) waits until the handler has returned, so no other "
        "consumer gets it meanwhile; when it is told to stop, that goes back at once. If it is "
        "killed, all that it had comes again after the lease."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_database(parser)
        parser.add_argument("handler", metavar="HANDLER", help="as shop.handlers.order_placed")
        parser.add_argument("names", nargs="+", metavar="QUEUE", help="to consume from")
        parser.add_argument(
            "--declare", action="store_true", help="create the queues that are not there (durable)"
        )
        parser.add_argument(
            "--requeue", action="store_true", help="put back what the handler fails on"
        )
        parser.add_argument(
            "--no-atomic",
            action="store_false",
            dest="atomic",
            help="run the handler outside of a transaction, and acknowledge after it",
        )
        parser.add_argument(
            "--prefetch",
            type=at_least(0),
            default=1,
            help="messages to have at once, at most (%(default)s); 0: as many as there are",
        )
        parser.add_argument(
            "--until-empty", action="store_true", help="end when nothing comes any more"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            handler = import_string(options["handler"])
        except ImportError as error:
            raise CommandError(f"There is no handler {options['handler']}: {error}") from error
        alias = alias_of(options)
        worker = _Worker(handler, alias, requeue=options["requeue"], atomic=options["atomic"])
        url = f"django://{alias}"
        try:
            with (
                until_told_to_stop() as stop,
                Connection(url, transport_options=transport_options(alias)) as connection,
            ):
                queues = [Queue(name) for name in options["names"]]
                for queue in queues:
                    queue(connection).queue_declare(passive=not options["declare"])
                consume(
                    connection,
                    queues,
                    worker.handle,
                    worker.refuse,
                    stop,
                    prefetch=options["prefetch"],
                    until_empty=options["until_empty"],
                )
        except KombuError as error:
            raise said(error) from error
        self.stdout.write(f"{worker.handled} handled, {worker.failed} failed")


class _Worker:
    """Calls the handler, and settles."""

    def __init__(
        self,
        handler: Callable[[Any, Message], object],
        alias: str,
        *,
        requeue: bool,
        atomic: bool,
    ) -> None:
        self._handler = handler
        self._alias = alias
        self._requeue = requeue
        self._atomic = atomic
        self.handled = 0
        self.failed = 0

    def handle(self, body: Any, message: Message) -> None:
        """Handle one message."""
        close_old_connections()
        whole = transaction.atomic(using=self._alias) if self._atomic else nullcontext()
        try:
            with whole:
                self._handler(body, message)
                if not message.acknowledged:
                    message.ack()
        except (LeaseLostError, *FAILURES):
            raise  # Not the handler's fault: the message comes again.
        except Exception:
            logger.exception("The handler failed on message %s", message.delivery_tag)
            self.failed += 1
            # What it settled itself was rolled back with the rest, and comes again.
            if not message.acknowledged:
                (message.requeue if self._requeue else message.reject)()
        else:
            self.handled += 1

    def refuse(self, message: Message, error: Exception) -> None:
        """Reject a message that cannot be decoded: it would not be the next time either."""
        close_old_connections()
        logger.error("Message %s cannot be decoded: %s", message.delivery_tag, error)
        self.failed += 1
        message.reject()
