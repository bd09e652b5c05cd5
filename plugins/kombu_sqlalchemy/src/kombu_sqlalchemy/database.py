"""The way to the database: an engine in autocommit mode, transactions of our own, and retries."""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, exc

from kombu_core.exceptions import ConnectionLostError, KombuError
from kombu_core.url import Secret
from kombu_core.virtual.contention import try_again, turn
from kombu_core.virtual.store import Conflict, NotEmpty
from kombu_sqlalchemy.errors import is_worth_another_try, translated

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Database:
    """Runs statements on connections of an engine. Thread-safe; a forked child gets its own.

    Args:
        engine: In autocommit mode; disposed of with this.
        begin: What begins a transaction that will write.
        file: Of SQLite: within this process one transaction at a time writes to it, so that
            threads need not find out by trying.
        patience: Seconds after which a transaction that others are in the way of is given up.
        most_idle: Connections that are kept at hand.
        secrets: What must not be in the text of an error.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        begin: str,
        file: str | None = None,
        patience: float = 10.0,
        most_idle: int = 5,
        secrets: tuple[Secret, ...] = (),
    ) -> None:
        self.engine = engine
        self._begin = begin
        self._file = file
        self._patience = patience
        self._secrets = secrets
        self._is_closed = False
        #: Connections at hand, the last one first; the pool's own way costs more than a statement.
        self._idle: deque[Connection] = deque()
        self._most_idle = most_idle
        self._kept: list[Any] = []
        self._after_fork: list[Callable[[], object]] = []
        _alive.add(self)

    def open(self) -> None:
        """Connect once.

        Raises:
            ConnectError: The database cannot be reached.
            AuthenticationError: It refused the credentials.
        """
        self._give_back(self._connect())

    def run(self, work: Callable[[Connection], T], *, writes: bool = False) -> T:
        """Call `work` with a connection on which each statement is a transaction of its own.

        It may be called again if another transaction got in its way, so it should change nothing
        but by its last statement.
        """
        return self._retry(work, writes=writes)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Call `work` in a transaction that is committed when it returns and undone if it raises.

        It may be called again if another transaction got in its way.
        """

        def all_or_nothing(connection: Connection) -> T:
            connection.exec_driver_sql(self._begin)
            try:
                result = work(connection)
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                _undo(connection)
                raise
            return result

        return self._retry(all_or_nothing, writes=True)

    def connect(self) -> Connection:
        """Return a connection of the pool; closing it gives it back."""
        return self._connect()

    @contextmanager
    def watching(self) -> Iterator[Connection]:
        """Lend a connection to who only looks; its errors are translated."""
        connection = self._connect()
        try:
            yield connection
        except BaseException as error:
            _raise_foreign(connection, error)
            if isinstance(error, exc.SQLAlchemyError):
                raise self.translate(error) from error
            raise
        finally:
            self._give_back(connection)

    @property
    def driver_error(self) -> type[Exception]:
        """The base of the driver's own errors."""
        return self.engine.dialect.loaded_dbapi.Error

    def translate(self, error: exc.SQLAlchemyError) -> Exception:
        """Return the error of ours for one of SQLAlchemy's."""
        return translated(error, secrets=self._secrets)

    def _retry(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        def attempt() -> T:
            connection = self._connect()
            try:
                with turn(self._file if writes else None):
                    return work(connection)
            except BaseException as error:
                _raise_foreign(connection, error)
                raise
            finally:
                self._give_back(connection)

        try:
            return try_again(attempt, is_worth_another_try, self._patience)
        except exc.SQLAlchemyError as error:
            raise self.translate(error) from error

    def _connect(self) -> Connection:
        if self._is_closed:
            raise ConnectionLostError("The store is closed")
        with suppress(IndexError):
            return self._idle.pop()
        try:
            return self.engine.connect()
        except exc.SQLAlchemyError as error:
            found = translated(error, secrets=self._secrets, connecting=True)
        except self.driver_error as error:  # from what is set up on a new connection
            found = translated(
                exc.DBAPIError("", None, error), secrets=self._secrets, connecting=True
            )
        # Outside of the handler: a driver quotes the whole address, with the password in it.
        raise found

    def _give_back(self, connection: Connection) -> None:
        """Keep a connection for the next user; whether it still works is that one's business."""
        is_broken = connection.closed or connection.invalidated
        if self._is_closed and not is_broken:
            connection.detach()  # Closed with it, and not kept by a pool that is no more.
        if not is_broken and not self._is_closed and len(self._idle) < self._most_idle:
            self._idle.append(connection)
        else:
            _close(connection)
        if is_broken or self._is_closed:
            self._close_idle()  # What broke one connection broke them all.

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                _close(self._idle.pop())

    def close(self) -> None:
        """Close the idle connections, and those in use when they come back. Idempotent."""
        self._is_closed = True
        self._close_idle()
        self.engine.dispose()

    def after_fork(self, call: Callable[[], object]) -> None:
        """Let something be called in a forked child, before anything else is done there."""
        self._after_fork.append(call)

    def forked(self) -> None:
        """In a forked child: leave the parent's connections alone and make new ones."""
        # What is collected is closed, and the parent goes on with the same sockets and files.
        self._kept += [self.engine.pool, self._idle]
        self._idle = deque()
        self.engine.dispose(close=False)
        for call in self._after_fork:
            call()


def _raise_foreign(connection: Connection, error: BaseException) -> None:
    """Give a connection up after what is no error of a statement's, as a signal's exception.

    It may have come while an answer was on its way, or between a BEGIN or a ROLLBACK and what
    follows it. SQLAlchemy wraps what a signal raises while a driver is at work: it is unwrapped.
    """
    if isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError):
        # A value that a driver cannot send makes one of these two.
        if error.orig is not None and not isinstance(error.orig, TypeError | ValueError):
            connection.invalidate()
            raise error.orig from None
    elif not isinstance(error, exc.SQLAlchemyError | KombuError | Conflict | NotEmpty):
        connection.invalidate()


def _undo(connection: Connection) -> None:
    try:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
    except exc.SQLAlchemyError:
        connection.invalidate()


def _close(connection: Connection) -> None:
    """Give a connection back to its pool.

    SQLAlchemy says ROLLBACK on it first, and a server that died since the work was done must not
    make an error of what it has confirmed.
    """
    try:
        connection.close()
    except exc.SQLAlchemyError as error:
        logger.debug("A connection broke while it was not in use: %s", error)
        if not connection.closed:
            connection.invalidate()
            connection.close()


_alive: Final[weakref.WeakSet[Database]] = weakref.WeakSet()


def _after_fork() -> None:
    for database in list(_alive):
        database.forked()


os.register_at_fork(after_in_child=_after_fork)
