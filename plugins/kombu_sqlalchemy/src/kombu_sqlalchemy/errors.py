"""The border: SQLAlchemy's and the drivers' exceptions become ours, without any secret in them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import exc

from kombu_core.exceptions import BrokerError, ConnectionLimitExceededError, KombuError
from kombu_core.url import MASK, Secret
from kombu_core.virtual.driver_errors import is_in_the_way, kind_of

#: SQLite's: a lock of another connection; and one that no waiting would help against.
_BUSY: Final = 5
_BUSY_SNAPSHOT: Final = 517
#: MariaDB's and MySQL's number.
_NO_SUCH_TABLE: Final = 1146


def is_worth_another_try(error: Exception) -> bool:
    """Tell whether the transaction was undone because of another one, and may just run again."""
    return isinstance(error, exc.DBAPIError) and is_in_the_way(error.orig)


def is_missing_table(error: exc.DBAPIError) -> bool:
    """Tell whether a statement named a table that is not there."""
    cause = error.orig
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    first = cause.args[0] if cause is not None and cause.args else None
    return state == "42P01" or first == _NO_SUCH_TABLE or "no such table" in str(first)


def translated(
    error: exc.SQLAlchemyError, *, secrets: tuple[Secret, ...] = (), connecting: bool = False
) -> KombuError:
    """Return what the application gets for an error of SQLAlchemy.

    Args:
        error: What was raised.
        secrets: Texts to hide.
        connecting: It happened while a connection was made.
    """
    cause = error.orig if isinstance(error, exc.DBAPIError) else None
    # SQLAlchemy's own text would show the statement.
    text = str(cause or error).strip() or type(error).__name__
    for secret in secrets:
        text = text.replace(secret.reveal(), MASK)
    text += _explained(cause)
    return _kind(error, cause, connecting)(text)


def _explained(cause: BaseException | None) -> str:
    """Return what is to be added to SQLite's "database is locked"."""
    code = getattr(cause, "sqlite_errorcode", None)
    if code == _BUSY_SNAPSHOT:
        return (
            ": another transaction has written since this one began to read; begin it with a write"
        )
    if code == _BUSY:
        return ": another transaction is writing, and the wait for it (lock_timeout) is over"
    return ""


def _kind(
    error: exc.SQLAlchemyError, cause: BaseException | None, connecting: bool
) -> type[KombuError]:
    if isinstance(error, exc.TimeoutError):
        return ConnectionLimitExceededError
    if not isinstance(error, exc.DBAPIError):
        return BrokerError
    return kind_of(
        cause,
        is_temporary=isinstance(
            error, exc.OperationalError | exc.InterfaceError | exc.InternalError
        ),
        is_lost=error.connection_invalidated,
        connecting=connecting,
    )
