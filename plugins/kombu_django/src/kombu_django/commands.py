"""What the management commands have in common: the database, and how they are told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, Error, InterfaceError, router
from django.db import OperationalError as DatabaseOperationalError

from kombu_core import Connection, Consumer, Message, Queue
from kombu_core.exceptions import (
    KombuError,
    LeaseLostError,
    NothingCameError,
    OperationalError,
)
from kombu_django.errors import translated
from kombu_django.models import Message as Row
from kombu_django.tables import has_tables, missing_tables, require_alias

logger = logging.getLogger(__name__)

#: What is not a handler's fault: the database failed under it.
FAILURES: Final = (DatabaseOperationalError, InterfaceError, OperationalError)
#: Seconds between two looks whether it is to stop.
_SLICE: Final = 0.5
#: Seconds without a message after which there is none.
_EMPTY: Final = 0.1
#: Seconds before it connects again.
_PAUSE: Final = 1.0


def add_database(parser: ArgumentParser) -> None:
    """Add the option that names a database."""
    parser.add_argument(
        "--database",
        metavar="ALIAS",
        help="the database that has the queues; without it the one that the routers choose",
    )


def alias_of(options: Mapping[str, Any]) -> str:
    """Return the database that was named, or that the routers choose."""
    return str(options["database"] or router.db_for_write(Row) or DEFAULT_DB_ALIAS)


def ready_alias(options: Mapping[str, Any]) -> str:
    """Return the same of a database that can be asked and has the tables.

    Raises:
        CommandError: It has not, or DATABASES has no such alias.
    """
    alias = alias_of(options)
    try:
        require_alias(alias)
        if not has_tables(alias):
            raise missing_tables(alias)
    except Error as error:
        raise said(translated(error)) from error
    except KombuError as error:
        raise said(error) from error
    return alias


def said(error: KombuError) -> CommandError:
    """Return what a command ends with."""
    return CommandError(f"{type(error).__name__}: {error}")


def at_least(smallest: int) -> Callable[[str], int]:
    """Return a type of an argument: a whole number, this or more."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < smallest:
            raise ArgumentTypeError(f"{text!r} is no whole number of {smallest} or more")
        return int(text)

    return number


@contextmanager
def until_told_to_stop() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and ^C set; outside of the main thread nothing sets it."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def consume(
    connection: Connection,
    queues: Sequence[Queue],
    handle: Callable[[Any, Any], object],
    refuse: Callable[[Any, Exception], object],
    stop: threading.Event,
    *,
    prefetch: int,
    until_empty: bool,
) -> None:
    """Consume until told to stop, or until nothing comes; a lost connection is made again.

    Args:
        connection: To the broker.
        queues: They are there.
        handle: Called with body and message, which it settles; if one of `FAILURES` comes out,
            the message comes again.
        refuse: Called with a message whose body cannot be decoded, and why; else the same.
        stop: Set to stop after the message that is being handled.
        prefetch: Messages to take at once.
        until_empty: Return when nothing comes any more.
    """
    waiting: list[Message] = []

    def handling(body: Any, message: Message) -> None:
        settling(message, lambda: handle(body, message))

    def refusing(message: Message, error: Exception) -> None:
        settling(message, lambda: refuse(message, error))

    def settling(message: Message, settle: Callable[[], object]) -> None:
        try:
            settle()
        except FAILURES as error:
            # What was settled in a transaction was undone with it, and comes again by itself.
            if not message.acknowledged:
                waiting.append(message)
            raise OperationalError(f"The database failed under a handler: {error}") from error

    with Consumer(
        connection,
        queues,
        callbacks=[handling],
        on_decode_error=refusing,
        prefetch_count=prefetch,
        auto_declare=False,
    ):
        while not stop.is_set():
            try:
                if not connection.connected:
                    waiting.clear()  # They come again with all others.
                    connection.connect()  # It consumes again, too.
                while waiting:
                    waiting[-1].requeue()
                    waiting.pop()
                connection.drain_events(timeout=_EMPTY if until_empty else _SLICE)
            except NothingCameError:
                if until_empty:
                    return
            except (LeaseLostError, OperationalError) as error:
                logger.warning("Consuming goes on in a moment: %s", error)
                stop.wait(_PAUSE)
