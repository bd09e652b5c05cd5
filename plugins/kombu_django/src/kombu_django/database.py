"""The way to the database: connections of our own, or the application's where it has a transaction.

Django's connections belong to threads, and the models find them by their alias. So a connection of
our own takes the place of the thread's for as long as our statements run, and is given back.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from django.db import Error, connections, transaction

from kombu_core.exceptions import ConnectionLostError, OperationalError
from kombu_core.url import Secret
from kombu_core.virtual.contention import try_again, turn
from kombu_django.errors import is_in_the_way, translated
from kombu_django.options import DjangoOptions
from kombu_django.statements import take_write_lock
from kombu_django.wrappers import close_wrapper, file_of, open_wrapper

T = TypeVar("T")


class DjangoDatabase:
    """Runs statements on one of Django's databases. Thread-safe; a forked child gets its own.

    What runs is called with the alias. In a thread that is in a transaction on that alias
    (`atomic`, or autocommit switched off) it runs in that transaction, unless `alone` is used.

    Args:
        alias: Of the database.
        options: The transport's.
    """

    def __init__(self, alias: str, options: DjangoOptions) -> None:
        self.alias = alias
        self.vendor: str = connections[alias].vendor
        self._options = options
        self._file = file_of(alias)
        password = connections[alias].settings_dict.get("PASSWORD")
        self._secrets = (Secret(str(password)),) if password else ()
        self._is_closed = False
        self._begin()
        self._kept: list[Any] = []
        self._after_fork: list[Callable[[], object]] = []
        _alive.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._here = threading.local()

    def open(self) -> None:
        """Connect once.

        Raises:
            ConnectError: The database cannot be reached.
            AuthenticationError: It refused the credentials.
        """
        self._give_back(self.take())

    # -- whose transaction -----------------------------------------------------------------

    @property
    def is_joined(self) -> bool:
        """Whether this thread is in a transaction of the application's, and not `alone`."""
        return self._is_inside() and not getattr(self._here, "is_alone", False)

    @property
    def is_exclusive(self) -> bool:
        """Whether this thread is in a transaction beside which nobody may write."""
        return self.vendor == "sqlite" and self._is_inside()

    def _is_inside(self) -> bool:
        theirs = connections[self.alias]
        return theirs.connection is not None and (
            theirs.in_atomic_block or not theirs.get_autocommit()
        )

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Let this thread's statements be no part of the application's transaction.

        Args:
            what: It is about to do, for the error.

        Raises:
            OperationalError: That cannot be while the transaction lasts.
        """
        if self.is_exclusive:
            raise OperationalError(
                f"SQLite lets one transaction write at a time, and this thread is in one: {what} "
                "before it begins or after its end"
            )
        before = getattr(self._here, "is_alone", False)
        self._here.is_alone = True
        try:
            yield
        finally:
            self._here.is_alone = before

    # -- running ---------------------------------------------------------------------------

    def run(self, work: Callable[[str], T], *, writes: bool = False) -> T:
        """See `kombu_core.virtual.tables.Database`."""
        if self.is_joined:
            return self._join(work, writes=False)
        return self._retry(lambda: work(self.alias), writes=writes)

    def transact(self, work: Callable[[str], T]) -> T:
        """See `kombu_core.virtual.tables.Database`."""
        if self.is_joined:
            return self._join(work, writes=True)

        def all_or_nothing() -> T:
            with transaction.atomic(using=self.alias, savepoint=False):
                self._write_first()
                return work(self.alias)

        return self._retry(all_or_nothing, writes=True)

    def _join(self, work: Callable[[str], T], *, writes: bool) -> T:
        try:
            if writes:
                self._write_first()
            return work(self.alias)
        except Error as error:
            raise self.translate(error) from error

    def _write_first(self) -> None:
        """Let SQLite take its lock before the first look, so that nothing moves until the end."""
        if self.vendor == "sqlite":
            take_write_lock(self.alias)

    def _retry(self, work: Callable[[], T], *, writes: bool) -> T:
        def attempt() -> T:
            with self._own() as _, turn(self._file if writes else None):
                return work()

        try:
            return try_again(attempt, is_in_the_way, self._options.lock_timeout)
        except Error as error:
            raise self.translate(error) from error

    @contextmanager
    def watching(self) -> Iterator[str]:
        """Lend a connection of our own to who only looks; its errors are translated."""
        try:
            with self._own():
                yield self.alias
        except Error as error:
            raise self.translate(error) from error

    @contextmanager
    def lending(self, ours: Any) -> Iterator[str]:
        """The same with one that `take` returned, and that stays with its owner."""
        try:
            with self._lent(ours):
                yield self.alias
        except Error as error:
            raise self.translate(error) from error

    def translate(self, error: Error) -> Exception:
        """Return the error of ours for one of Django's."""
        return translated(
            error, secrets=self._secrets, is_lost=getattr(error, "kombu_is_lost", False)
        )

    # -- connections of our own ------------------------------------------------------------

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Let one of our connections be this thread's."""
        ours = self.take()
        try:
            with self._lent(ours):
                yield
        finally:
            self._give_back(ours)

    @contextmanager
    def _lent(self, ours: Any) -> Iterator[None]:
        """Let a connection be this thread's; it is closed after an error."""
        theirs = connections[self.alias]
        connections[self.alias] = ours
        try:
            yield
        except BaseException as error:
            if isinstance(error, Error) and not is_in_the_way(error):
                # Django may have closed it already, where it could not undo a transaction.
                error.kombu_is_lost = ours.connection is None or not ours.is_usable()
                close_wrapper(ours)
            elif not isinstance(error, Exception):
                close_wrapper(ours)  # Interrupted in the middle, perhaps of an answer.
            raise
        finally:
            connections[self.alias] = theirs

    def take(self) -> Any:
        """Return a connection of our own, for `lending`; `close_wrapper` ends it.

        Raises:
            ConnectError: The database cannot be reached.
            AuthenticationError: It refused the credentials.
        """
        with self._lock:
            if self._is_closed:
                raise ConnectionLostError("The store is closed")
            if self._idle:
                return self._idle.pop()
        try:
            return open_wrapper(self.alias, self._options)
        except Error as error:
            found = translated(error, secrets=self._secrets, connecting=True)
        # Outside of the handler: a driver quotes the whole address, with the password in it.
        raise found

    def _give_back(self, ours: Any) -> None:
        with self._lock:
            is_wanted = not self._is_closed and len(self._idle) < self._options.pool_size
            if is_wanted and ours.connection is not None:
                self._idle.append(ours)
                return
        close_wrapper(ours)

    def close(self) -> None:
        """Close our idle connections, and those in use when they come back. Idempotent."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for ours in idle:
            close_wrapper(ours)

    def after_fork(self, call: Callable[[], object]) -> None:
        """Let something be called in a forked child, before anything else is done there."""
        self._after_fork.append(call)

    def forked(self) -> None:
        """In a forked child: leave the parent's connections alone and make new ones."""
        # What is collected is closed, and the parent goes on with the same sockets and files.
        self._kept += self._idle
        self._begin()
        for call in self._after_fork:
            call()


_alive: Final[weakref.WeakSet[DjangoDatabase]] = weakref.WeakSet()


def _after_fork() -> None:
    for database in list(_alive):
        database.forked()


os.register_at_fork(after_in_child=_after_fork)
