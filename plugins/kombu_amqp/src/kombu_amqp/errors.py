"""AMQP's reply codes, and what they are here."""

from __future__ import annotations

from typing import Final

from kombu_core.exceptions import (
    AccessRefusedError,
    AuthenticationError,
    BrokerError,
    ChannelError,
    ConnectError,
    ConnectionLostError,
    NotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    ResourceLockedError,
)

_CHANNEL_ERRORS: Final[dict[int, type[ChannelError]]] = {
    error.default_code: error
    for error in (
        AccessRefusedError,
        NotFoundError,
        ResourceLockedError,
        PreconditionFailedError,
    )
}
#: access-refused, and not-allowed: no such virtual host, or not for this user.
_REFUSALS: Final = frozenset({403, 530})


def channel_error(code: int, text: str) -> ChannelError:
    """Return what channel.close with this code means."""
    return _CHANNEL_ERRORS.get(code, ChannelError)(text, code)


def lost_error(code: int, text: str) -> ConnectionLostError:
    """Return what connection.close means on a connection that was open."""
    return ConnectionLostError(f"The broker closed the connection: {text} ({code})")


def refused_error(code: int, text: str) -> ConnectError:
    """Return what connection.close means while the connection is being made."""
    kind = AuthenticationError if code in _REFUSALS else ConnectError
    return kind(f"The broker refused the connection: {text} ({code})")


def again(error: BrokerError) -> BrokerError:
    """Return an equal error to raise: a traceback belongs to one thread."""
    if isinstance(error, ChannelError):
        return type(error)(error.text, error.code)
    return type(error)(*error.args)


def closed_error() -> ChannelError:
    """Return what using a closed channel means (504, channel-error)."""
    return ChannelError("The channel is closed", 504)


def late_error(what: str, blocked: str | None) -> OperationTimeoutError:
    """Return the error of a deadline that passed; `blocked` is the broker's reason, if it has."""
    if blocked is not None:
        return OperationTimeoutError(
            f"The broker has blocked the connection and takes nothing: {blocked}"
        )
    return OperationTimeoutError(what)
