"""What the tests do with databases, in short words."""

from __future__ import annotations

import os
import socket
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

from kombu_core import Connection
from kombu_core.message import Envelope
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.store import Claimed
from kombu_django.models import Message
from kombu_django.store import DjangoStore
from kombu_django.transport import DjangoTransport

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> T:
    """Call something in a thread, which has no part in this one's transaction."""

    def closing() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(closing).result()


def later(seconds: float, call: Callable[[], object]) -> threading.Timer:
    """Call something in a thread, in some seconds; returns what is to be joined."""
    timer = threading.Timer(seconds, in_thread, (call,))
    timer.start()
    return timer


def rows_of(alias: str, queue: str) -> int:
    """Return how many rows a queue has."""
    found: int = Message.objects.using(alias).filter(queue=queue).count()
    return found


def taken(connection: Connection, queue: str) -> list[str]:
    """Take all that is ready in a queue."""
    channel = connection.channel()
    found = []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        found.append(message.body.decode())
    channel.close()
    return found


def fork(work: Callable[[], object]) -> int:
    """Call something in a child that ends with it, and return its number."""
    with warnings.catch_warnings():
        # Threads of the kombu connection are there, and that is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  (nothing of the test may go on in the child)
        traceback.print_exc()
    finally:
        os._exit(status)


def open_store(alias: str, **options: object) -> DjangoStore:
    """Return a store of a database, to be closed."""
    return DjangoTransport(TransportParameters(parse(f"django://{alias}"), options)).open_store()


def as_envelope(claimed: Claimed) -> Envelope:
    """Return what was claimed, which is no garbage."""
    assert isinstance(claimed.content, Envelope)
    return claimed.content


def cut(alias: str) -> None:
    """Break this thread's connection to a server, as a network does."""
    driver = connections[alias].connection
    # Psycopg's, or PyMySQL's.
    number = driver.fileno() if hasattr(driver, "fileno") else driver._sock.fileno()
    with socket.socket(fileno=os.dup(number)) as end:
        end.shutdown(socket.SHUT_RDWR)


def ended(child: int) -> int:
    """Wait for a child; its exit status, or the negative number of its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
