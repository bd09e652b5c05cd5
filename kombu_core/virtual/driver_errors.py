"""What the errors of database drivers mean, by SQLSTATE, number and class (PEP 249)."""

from __future__ import annotations

from typing import Final

from kombu_core.exceptions import (
    AccessRefusedError,
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    KombuError,
    OperationalError,
)

#: SQLSTATEs of PostgreSQL: serialization_failure, deadlock_detected.
_RETRIED_STATES: Final = frozenset({"40001", "40P01"})
#: The wait for a lock ended: PostgreSQL's lock_not_available.
_LOCK_STATES: Final = frozenset({"55P03"})
#: Numbers of MariaDB and MySQL: ER_LOCK_DEADLOCK; MariaDB's ER_CHECKREAD.
_RETRIED_NUMBERS: Final = frozenset({1213, 1020})
#: ER_DBACCESS_DENIED, ER_ACCESS_DENIED, ER_ACCESS_DENIED_NO_PASSWORD.
_LOGIN_NUMBERS: Final = frozenset({1044, 1045, 1698})
#: ER_TABLEACCESS_DENIED, ER_COLUMNACCESS_DENIED, ER_SPECIFIC_ACCESS_DENIED.
_ACCESS_NUMBERS: Final = frozenset({1142, 1143, 1227})
#: The server goes down or is not ready yet.
_GONE_NUMBERS: Final = frozenset({1053, 1077, 1079, 1152, 1927, 2006, 2013, 2055})
#: ER_BAD_FIELD_ERROR, which PyMySQL takes for an operational error.
_MISTAKE_NUMBERS: Final = frozenset({1054})
#: SQLite's primary codes BUSY and LOCKED.
_BUSY: Final = frozenset({5, 6})
#: SQLite's ERROR, as a table that is not there, and NOTADB.
_ERROR: Final = 1
_NO_DATABASE: Final = 26


def _state(error: BaseException | None) -> str:
    """Return PostgreSQL's SQLSTATE of a driver's error."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


def _number(error: BaseException | None) -> int:
    """Return the number of an error of MariaDB, MySQL, or SQLite (the primary code)."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & 0xFF
    first = error.args[0] if error is not None and error.args else 0
    return first if isinstance(first, int) else 0


def is_in_the_way(cause: BaseException | None) -> bool:
    """Tell whether a transaction was undone because of another one, and may just run again."""
    if hasattr(cause, "sqlite_errorcode"):
        return _number(cause) in _BUSY
    return _state(cause) in _RETRIED_STATES or (
        not _state(cause) and _number(cause) in _RETRIED_NUMBERS
    )


def kind_of(
    cause: BaseException | None, *, is_temporary: bool, is_lost: bool, connecting: bool
) -> type[KombuError]:
    """Return the class of the error of ours that stands for a driver's.

    Args:
        cause: What the driver raised.
        is_temporary: It is an `OperationalError`, `InterfaceError` or `InternalError` of PEP 249.
        is_lost: It is known that the connection is gone.
        connecting: It happened while a connection was made.
    """
    state, number = _state(cause), _number(cause)
    is_sqlite = hasattr(cause, "sqlite_errorcode")
    if state.startswith("28") or (not is_sqlite and number in _LOGIN_NUMBERS):
        return AuthenticationError
    if connecting:
        if (is_sqlite and number == _NO_DATABASE) or _is_misuse(cause):
            return ConfigurationError
        return AuthenticationError if _is_refused(cause) else ConnectError
    # 57P01 to 57P05: the server ends the connection. 25006: it became a replica.
    if is_lost or state.startswith(("08", "57P")) or state == "25006":
        return ConnectionLostError
    if not is_sqlite and not state and number in _GONE_NUMBERS:
        return ConnectionLostError
    if state == "42501" or (not is_sqlite and not state and number in _ACCESS_NUMBERS):
        return AccessRefusedError
    if number in ({_ERROR, _NO_DATABASE} if is_sqlite else _MISTAKE_NUMBERS) and not state:
        return BrokerError
    # 53: no memory, disk full. Those are temporary as a lost connection is, and lose none.
    if is_temporary:
        return OperationalError
    if state in _LOCK_STATES | _RETRIED_STATES:
        return OperationalError
    return BrokerError


def _is_misuse(cause: BaseException | None) -> bool:
    """Tell whether the driver did not know an argument: PEP 249's `ProgrammingError`."""
    return any(base.__name__ == "ProgrammingError" for base in type(cause).__mro__)


def _is_refused(cause: BaseException | None) -> bool:
    """Tell by libpq's words that the server refused the login: such an error has no SQLSTATE."""
    text = str(cause)
    return any(
        words in text
        for words in ("authentication failed", "no password supplied", "no pg_hba.conf entry")
    ) or ('role "' in text and "does not exist" in text)
