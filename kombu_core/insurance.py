"""Calls that survive a lost connection, declarations made once, errors that are ignored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from kombu_core.declaration import Entity, HasDefaultChannel, channel_of
from kombu_core.entity import Queue
from kombu_core.exceptions import ConfigurationError, NotBoundError
from kombu_core.exchange import Exchange
from kombu_core.transport import Channel, Transport

if TYPE_CHECKING:
    from kombu_core.retry import Errback

__all__ = ["ignore_errors", "insured", "maybe_declare"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: What was declared on each living connection to a broker; a new one begins with nothing.
_declared: Final[WeakKeyDictionary[Transport, set[Entity]]] = WeakKeyDictionary()


class HasErrors(Protocol):
    """A connection, or whatever else tells which errors its broker makes."""

    @property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """What a broken connection raises."""
        ...

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """What closes a channel."""
        ...


class Pool(Protocol):
    """A pool of connections, as far as `insured` needs one."""

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """Take a connection."""
        ...


def maybe_declare(
    entity: Exchange | Queue,
    channel: Channel | HasDefaultChannel | None = None,
    retry: bool = False,
    **retry_policy: Any,
) -> bool:
    """Declare an exchange or queue unless that was done on this connection; tell whether it did.

    What can go by itself (auto-delete, expiring, or named by the broker) is declared each time.
    Deleting what was declared is not noticed: use `declare` then. Threads may call it side by
    side; an entity may then be declared twice, which changes nothing.

    Args:
        entity: Bound or not.
        channel: To declare on; None for the channel that it is bound to.
        retry: Reconnect and try again if the connection is lost.
        **retry_policy: As `Connection.ensure`: max_retries, interval_start and so on, in seconds.

    Raises:
        NotBoundError: There is no channel.
        PreconditionFailedError: It exists with other attributes.
        ConnectionLostError: The broker went away, and there are no more retries.
    """
    if channel is None and not entity.is_bound:
        raise NotBoundError(f"No channel to declare {entity!r} on")
    bound = entity if channel is None else entity.bind(channel)
    if not retry:
        return _declare(bound)
    client = bound.channel.transport.client
    if client is None:
        raise ConfigurationError("retry=True needs a channel that was made by a Connection")
    return client.ensure(bound, _declare, **retry_policy)(bound)


def _declare(bound: Exchange | Queue) -> bool:
    known = _declared.setdefault(bound.channel.transport, set())
    if not bound.name or not bound.can_cache_declaration:
        bound.declare()
        return True
    if bound in known:
        return False
    bound.declare()
    known.add(copy(bound))
    return True


def insured(
    pool: Pool,
    fun: Callable[..., T],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    errback: Errback | None = None,
    on_revive: Callable[[Channel], object] | None = None,
    **opts: Any,
) -> T:
    """Call `fun(*args, connection=..., channel=..., **kwargs)` with a connection of a pool.

    If the connection is lost it is made again and the call repeated as a whole (at least once).
    Blocks until a connection is free, and between attempts.

    Args:
        pool: Of connections.
        fun: Called with `connection`, and `channel`: its default channel.
        args: Its positional arguments.
        kwargs: Its other keyword arguments.
        errback: Called with each error and the seconds until the next attempt; None logs.
        on_revive: Called with the new channel before the call is repeated.
        **opts: As `Connection.ensure`.
    """
    report = errback or _log_retry
    with pool.acquire(block=True) as connection:
        connection.ensure_connection(errback=report)

        def call() -> T:
            channel = channel_of(connection)
            return fun(*args, **{**kwargs, "connection": connection, "channel": channel})

        result: T = connection.ensure(None, call, errback=report, on_revive=on_revive, **opts)()
        return result


def ignore_errors(
    conn: HasErrors, fun: Callable[..., T] | None = None, *args: Any, **kwargs: Any
) -> T | AbstractContextManager[None] | None:
    """Ignore what the broker may raise; for cleaning up, when there is nothing left to save.

    Args:
        conn: Tells which errors.
        fun: Called at once. None: a context manager is returned.
        *args: For `fun`.
        **kwargs: For `fun`.

    Returns:
        What `fun` returns, None if it failed; or the context manager.
    """
    if fun is None:
        return _ignoring(conn)
    with _ignoring(conn):
        return fun(*args, **kwargs)
    return None


def _ignoring(conn: HasErrors) -> AbstractContextManager[None]:
    errors = (*conn.connection_errors, *conn.channel_errors)

    @contextmanager
    def ignoring() -> Iterator[None]:
        try:
            yield
        except errors as error:
            logger.debug("Ignored: %r", error)

    return ignoring()


def _log_retry(error: BaseException, interval: float) -> None:
    logger.warning("The connection failed: %r; trying again in %.1f s", error, interval)
