"""A connection to a broker: lazy, with failover over several URLs, shared by threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar

from kombu_core.description import Described
from kombu_core.exceptions import (
    AuthenticationError,
    ChannelError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ConsumerCancelledError,
    NothingCameError,
    OperationalError,
    OperationTimeoutError,
)
from kombu_core.forking import tell_of_forks
from kombu_core.handles import Handles
from kombu_core.plugins import Plugins, default_plugins
from kombu_core.recovery import Recovery
from kombu_core.retry import Backoff, retry
from kombu_core.transport import Channel, Transport, TransportParameters
from kombu_core.url import BrokerURL, RedactedDict, Secret, parse, split_urls

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

P = ParamSpec("P")
T = TypeVar("T")

#: What a connection without a scheme means.
DEFAULT_SCHEME: Final = "amqp"

Errback = Callable[[BaseException, float], object]


class Revivable(Protocol):
    """What `Connection.ensure` tells of a new connection."""

    def revive(self, channel: Any) -> None:
        """Go on with another channel."""
        ...


class Connection(Handles, Described):
    """A connection to one of several brokers.

    Nothing is connected before it is needed. May be shared by threads; see `Channel` for what
    belongs to one. After a fork the child makes its own connection when it first needs it.

    Args:
        hostname: A URL, several (`a;b` or a list) of which the first that answers is used, or a
            plain host name together with the arguments after it.
        userid: Of a broker without a URL, like the three that follow.
        password: Never shown again.
        virtual_host: What it means is the transport's: an AMQP virtual host, a database number.
        port: None for the transport's own.
        transport: Scheme for a plain host name; `amqp` if there is neither.
        ssl: True or an `ssl.SSLContext`; None lets the scheme decide.
        connect_timeout: Seconds for connecting and authenticating, for each URL.
        transport_options: Checked by the transport; an unknown one is refused.
        heartbeat: Seconds between heartbeats where the transport has them.
        recovery: How `drain_events` reconnects by itself when the connection is lost: a
            `Backoff`, or True for the default one. None: it raises, and `connect` recovers.
        alternates: Further URLs to try.
        plugins: Where transports are found; None for all that is installed.
        accept: Serializers or content types that its consumers may decode, unless they say
            themselves; None: the enabled ones.
    """

    def __init__(
        self,
        hostname: str | Iterable[str] = "",
        userid: str | None = None,
        password: str | None = None,
        virtual_host: str | None = None,
        port: int | None = None,
        *,
        transport: str | None = None,
        ssl: Any = None,
        connect_timeout: float = 5.0,
        transport_options: Mapping[str, Any] | None = None,
        heartbeat: float | None = None,
        recovery: Backoff | bool | None = None,
        alternates: Iterable[str] = (),
        plugins: Plugins | None = None,
        accept: Collection[str] | None = None,
    ) -> None:
        self.connect_timeout = connect_timeout
        self.heartbeat = heartbeat
        #: What its consumers may decode, unless they say themselves.
        self.accept = accept
        self._backoff = Backoff() if recovery is True else recovery or None
        self.transport_options = RedactedDict(transport_options or {})
        self._ssl = ssl
        #: Where transports, codecs and observers are found.
        self.plugins = default_plugins if plugins is None else plugins
        self._urls = (
            *self._parse(hostname, userid, password, virtual_host, port, transport),
            *(self._parse_url(url) for url in alternates),
        )
        self._current = 0
        self._transport: Transport | None = None
        self._default_channel: Channel | None = None
        #: The last one that observers were told of.
        self._reported: Transport | None = None
        #: What is declared again, and who is revived, after the connection was lost.
        self.recovery = Recovery()
        self.forked()
        tell_of_forks(self)

    def forked(self) -> None:
        """In a forked child: the parent's threads may have held the lock."""
        self._lock = threading.RLock()

    def _parse(
        self,
        hostname: str | Iterable[str],
        userid: str | None,
        password: str | None,
        virtual_host: str | None,
        port: int | None,
        transport: str | None,
    ) -> list[BrokerURL]:
        if not isinstance(hostname, str) or "://" in hostname:
            if (userid, password, virtual_host, port) != (None, None, None, None):
                raise ConfigurationError(
                    "userid, password, virtual_host and port belong into the URL, not beside it"
                )
            return [self._parse_url(url) for url in split_urls(hostname)]
        url = BrokerURL(
            scheme=transport or DEFAULT_SCHEME,
            hostname=hostname or ("localhost" if transport is None else None),
            port=port,
            userid=userid,
            password=None if password is None else Secret(password),
            virtual_host=virtual_host,
        )
        return [url]

    @staticmethod
    def _parse_url(url: str) -> BrokerURL:
        # A scheme with a dialect is the URL of another library behind it; see the plugin.
        scheme = url.partition("://")[0].strip().lower()
        return parse(url, opaque=scheme.startswith(("sqlalchemy+", "sqla+")))

    # -- connecting ------------------------------------------------------------------------

    def connect(self) -> Transport:
        """Connect if it is not connected, to the first URL that answers.

        If a connection was lost, exchanges and queues that were declared through it are declared
        again, and its producers and consumers go on: with the same tags, and channels of the new
        connection. Deliveries of the lost one cannot be settled; they come again.

        Raises:
            ConnectError: None answered; the last one's error is chained.
            TransportNotFoundError: No plugin is installed for a scheme.
        """
        with self._lock:
            transport = self._transport
            if transport is None or not transport.is_connected:
                lost = transport
                if lost is not None:
                    self._report_lost(ConnectionLostError("The connection was lost"))
                    self.recovery.lost(self._default_channel)
                    self._default_channel = None
                transport = self._connect_to_any()
                if lost is not None:
                    lost.close()  # Not earlier: what it holds is given back only now.
            if self.recovery.is_needed:
                self._default_channel = self.recovery.restore(transport)
            return transport

    def _connect_to_any(self) -> Transport:
        failed: ConnectError | None = None
        for _ in self._urls:
            transport = self._make_transport()
            try:
                transport.connect()
            except ConnectError as error:
                failed = error
                self._current = (self._current + 1) % len(self._urls)
                continue
            transport.client = self
            self._transport = transport
            if (opened := self.plugins.observer("kombu_connection_opened")) is not None:
                opened(transport=transport)
            return transport
        raise failed or ConfigurationError("There is no broker URL")

    def _make_transport(self) -> Transport:
        url, options = self.url, self.transport_options
        parameters = TransportParameters(
            url, options, self.connect_timeout, self.heartbeat, self._ssl, self.plugins
        )
        return self.plugins.transport_class(url.scheme)(parameters)

    @property
    def connected(self) -> bool:
        """Whether there is a connection that is not known to be broken."""
        return self._transport is not None and self._transport.is_connected

    @property
    def transport(self) -> Transport:
        """The transport, connected."""
        transport = self._transport
        if transport is not None and transport.is_connected:
            return transport
        return self.connect()

    def channel(self) -> Channel:
        """Open a new channel, connecting first if need be."""
        return self.transport.channel()

    @property
    def default_channel(self) -> Channel:
        """One channel for whatever does not ask for its own; opened when it is first needed."""
        channel = self._default_channel
        if channel is not None and channel.is_open:
            return channel
        with self._lock:
            if self._default_channel is None or not self._default_channel.is_open:
                self._default_channel = self.channel()
            return self._default_channel

    def release(self) -> None:
        """Close: unacknowledged messages go back to their queues. It can be connected again."""
        with self._lock:
            transport, self._transport = self._transport, None
            self._default_channel = None
            self.recovery.forget()
        if transport is not None:
            transport.close()

    close = release

    def ensure_connection(
        self,
        errback: Errback | None = None,
        max_retries: int | None = None,
        interval_start: float = 2.0,
        interval_step: float = 2.0,
        interval_max: float = 30.0,
        callback: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> Self:
        """Connect, and try again until it works.

        Args:
            errback: Called with each error and the seconds until the next attempt.
            max_retries: Attempts after the first; None for ever, 0 for none.
            interval_start: Seconds before the second attempt.
            interval_step: Added to each further interval.
            interval_max: No interval is longer.
            callback: Called before each attempt.
            timeout: Seconds after which no further attempt is made.

        Raises:
            ConnectError: The attempts or the time are used up.
        """

        def attempt() -> None:
            if callback is not None:
                callback()
            self.connect()

        retry(
            attempt,
            errors=_RETRYABLE,
            hopeless=AuthenticationError,
            backoff=Backoff(
                start=interval_start,
                step=interval_step,
                maximum=interval_max,
                max_retries=max_retries,
            ),
            timeout=timeout,
            errback=errback,
        )
        return self

    def ensure(
        self,
        obj: Revivable | None,
        fun: Callable[P, T],
        errback: Errback | None = None,
        max_retries: int | None = None,
        interval_start: float = 1.0,
        interval_step: float = 1.0,
        interval_max: float = 1.0,
        on_revive: Callable[[Channel], object] | None = None,
        retry_errors: tuple[type[BaseException], ...] = (),
    ) -> Callable[P, T]:
        """Return `fun` made to survive a lost connection: reconnect, revive `obj`, call again.

        The call is repeated as a whole, so what it did before the connection broke may be done
        twice (at least once). The other arguments are as for `ensure_connection`.
        """
        errors = (*_RETRYABLE, *retry_errors)
        backoff = Backoff(
            start=interval_start, step=interval_step, maximum=interval_max, max_retries=max_retries
        )

        def insured(*args: P.args, **kwargs: P.kwargs) -> T:
            is_first = True

            def attempt() -> T:
                nonlocal is_first
                if not is_first and not self.connected:
                    self.connect()
                if not is_first:
                    channel = self.default_channel
                    used = getattr(obj, "used_channel", None)
                    # Connecting has given a user of this connection its channel already.
                    if obj is not None and (used is None or not used.is_open):
                        obj.revive(channel)
                    if on_revive is not None:
                        on_revive(channel)
                is_first = False
                try:
                    return fun(*args, **kwargs)
                except ConnectionLostError as error:
                    self._report_lost(error)
                    raise

            return retry(
                attempt,
                errors=errors,
                hopeless=AuthenticationError,
                backoff=backoff,
                errback=errback,
            )

        insured.__name__ = f"{getattr(fun, '__name__', 'call')}(insured)"
        return insured

    # -- using -----------------------------------------------------------------------------

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one event and handle it, by the callback that it is for.

        Args:
            timeout: Seconds; None waits until something comes.

        Raises:
            NothingCameError: Nothing came (it is a TimeoutError).
            ConnectionLostError: The broker went away, and there is no `recovery`.
            ConnectError: It did not come back before the attempts of `recovery` were used up.
        """
        try:
            transport = self._transport
            if transport is None or self.recovery.is_needed:
                transport = self.connect()
            transport.drain_events(timeout)
        except _RECOVERABLE as error:
            if isinstance(error, NothingCameError):
                raise
            if self.connected and not self.recovery.is_needed:
                raise  # It is a callback's own error, about another connection.
            self._report_lost(error)
            if self._backoff is None:
                raise
            self._reconnect(self._backoff, timeout)

    def _reconnect(self, backoff: Backoff, timeout: float | None) -> None:
        """Connect again; if the time is over before, the next drain goes on with it."""
        deadline = None if timeout is None else monotonic() + timeout
        try:
            retry(
                self.connect,
                errors=_RECOVERABLE,
                hopeless=AuthenticationError,
                backoff=backoff,
                timeout=timeout,
            )
        except AuthenticationError:
            raise
        except _RECOVERABLE as error:
            if deadline is None or monotonic() < deadline:
                raise
            raise NothingCameError(f"Nothing came, there is no connection: {error}") from error

    def _report_lost(self, error: BaseException) -> None:
        transport = self._transport
        if transport is not None and transport is not self._reported:
            self._reported = transport
            if (lost := self.plugins.observer("kombu_connection_lost")) is not None:
                lost(transport=transport, error=error)

    def heartbeat_check(self, rate: int = 2) -> None:
        """Raise ConnectionLostError if the broker has been silent for too long."""
        self.transport.heartbeat_check()

    @property
    def recovers(self) -> bool:
        """Whether `drain_events` reconnects by itself."""
        return self._backoff is not None

    def clone(self, **changes: Any) -> Connection:
        """Return an unconnected copy; `changes` are arguments of the constructor."""
        options: dict[str, Any] = {
            "ssl": self._ssl,
            "connect_timeout": self.connect_timeout,
            "transport_options": self.transport_options,
            "heartbeat": self.heartbeat,
            "recovery": self._backoff,
            "plugins": self.plugins,
            "accept": self.accept,
        }
        if "hostname" in changes or "transport" in changes:
            return Connection(**{**options, **changes})
        other = Connection(**{"hostname": "memory://", **options, **changes})
        other._urls = (*self._urls, *other._urls[1:])
        return other

    @property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """What a broken connection raises; never an error of the application."""
        return (OperationalError,)

    @property
    def recoverable_connection_errors(self) -> tuple[type[BaseException], ...]:
        """What another connection may cure."""
        return _RETRYABLE

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """What closes a channel, or ends a consumer."""
        return (ChannelError, ConsumerCancelledError)

    @property
    def recoverable_channel_errors(self) -> tuple[type[BaseException], ...]:
        """What consuming again may cure; a call that was refused would be refused again."""
        return (ConsumerCancelledError,)

    @property
    def identity(self) -> Hashable:
        """What is equal for two connections that can stand in for each other."""
        options = Secret(repr(sorted(self.transport_options.items())))
        settings = (self.connect_timeout, self.heartbeat, self._backoff)
        return (self._urls, options, *settings, id(self._ssl), id(self.plugins))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()} {'connected' if self.connected else 'closed'}>"


#: kombu's first name for it.
BrokerConnection = Connection

_RETRYABLE: Final[tuple[type[BaseException], ...]] = (ConnectError, ConnectionLostError)
#: What recovering a connection may meet: also a broker that is there and does not answer yet.
_RECOVERABLE: Final[tuple[type[BaseException], ...]] = (*_RETRYABLE, OperationTimeoutError)
