"""The border: Django's and the drivers' exceptions become ours, without any secret in them."""

from __future__ import annotations

from django.db import Error, InterfaceError, InternalError, OperationalError

from kombu_core.exceptions import KombuError
from kombu_core.url import MASK, Secret
from kombu_core.virtual import driver_errors


def is_in_the_way(error: Exception) -> bool:
    """Tell whether the transaction was undone because of another one, and may just run again."""
    return isinstance(error, Error) and driver_errors.is_in_the_way(error.__cause__)


def translated(
    error: Error,
    *,
    secrets: tuple[Secret, ...] = (),
    is_lost: bool = False,
    connecting: bool = False,
) -> KombuError:
    """Return what the application gets for an error of Django's.

    Args:
        error: What was raised.
        secrets: Texts to hide.
        is_lost: The connection is gone.
        connecting: It happened while a connection was made.
    """
    cause = error.__cause__
    text = str(cause or error).strip() or type(error).__name__
    for secret in secrets:
        text = text.replace(secret.reveal(), MASK)
    kind = driver_errors.kind_of(
        cause,
        is_temporary=isinstance(error, OperationalError | InterfaceError | InternalError),
        is_lost=is_lost,
        connecting=connecting,
    )
    return kind(text)
