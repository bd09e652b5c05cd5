"""The command line: `python -m kombu_sqlalchemy`, to create tables and to run a relay.

python -m kombu_sqlalchemy create-tables sqlalchemy+postgresql://...
python -m kombu_sqlalchemy relay env:DATABASE_URL env:BROKER_URL
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from kombu_core import Connection
from kombu_core.exceptions import ConfigurationError, KombuError
from kombu_core.outbox import DEFAULT_OUTBOX, check_relay, relay
from kombu_sqlalchemy import kombu_transport

logger = logging.getLogger(__name__)

_URLS = (
    "A URL may be env:NAME, for the one in an environment variable: arguments can be read by "
    "everybody on the machine. Options of the transport go into the URL's query, as "
    "?kombu_prefix=mine_."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return _create_tables(options) if options.command == "create-tables" else _relay(options)
    except KombuError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kombu_sqlalchemy",
        description="Tables and outboxes of kombu-sqlalchemy.",
        epilog=_URLS,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser(
        "create-tables",
        help="create the tables, or upgrade those of an older release",
        epilog=_URLS,
    )
    create.add_argument("url", help="as sqlalchemy+postgresql://user@host/database")
    mover = commands.add_parser(
        "relay",
        help="move the messages of an outbox to another broker",
        description="Moves each message at least once, with the same message_id each time, and "
        "runs until SIGTERM or ^C. Kill it at any moment: nothing is lost.",
        epilog=_URLS,
    )
    mover.add_argument("source", help="URL of the database that has the outbox")
    mover.add_argument("target", help="URL of the broker that gets the messages")
    mover.add_argument("--outbox", default=DEFAULT_OUTBOX, help="name of its queue (%(default)s)")
    mover.add_argument(
        "--batch", type=_at_least_one, default=100, help="messages together (%(default)s)"
    )
    mover.add_argument("--until-empty", action="store_true", help="end when nothing is left")
    return parser


def _create_tables(options: argparse.Namespace) -> int:
    with Connection(_url(options.url), transport_options={"create_tables": True}) as connection:
        connection.connect()
        logger.info("The tables of %s are up to date", connection.as_uri())
    return 0


def _relay(options: argparse.Namespace) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Connection(_url(options.source)) as source, Connection(_url(options.target)) as target:
        _check(source, target, options.outbox)
        logger.info(
            "Moving the messages of %s from %s to %s",
            options.outbox,
            source.as_uri(),
            target.as_uri(),
        )
        moved = relay(
            source,
            target,
            options.outbox,
            batch=options.batch,
            until_empty=options.until_empty,
            stop=stop,
        )
    logger.info("Moved %d messages", moved)
    return 0


def _check(source: Connection, target: Connection, outbox: str) -> None:
    """Find out before the first message comes whether it could be moved.

    Raises:
        KombuError: It could not, however often it were tried.
    """
    if kombu_transport(source.url.scheme) is None:
        raise ConfigurationError(
            f"The source is {source.as_uri()}, which is not of kombu-sqlalchemy: the database "
            "comes first, then the broker"
        )
    check_relay(source, target, outbox)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _url(text: str) -> str:
    if not text.startswith("env:"):
        return text
    found = os.environ.get(text.removeprefix("env:"))
    if not found:
        raise SystemExit(f"The environment has no {text.removeprefix('env:')}")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
