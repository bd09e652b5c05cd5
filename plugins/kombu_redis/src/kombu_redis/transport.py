"""The Redis transport: from a URL and options to a store. All else is the virtual transport's."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from redis.connection import Connection, UnixDomainSocketConnection

from kombu_core.exceptions import ConfigurationError
from kombu_core.options import parse_options
from kombu_core.transport import TransportParameters
from kombu_core.url import BrokerURL, RedactedDict
from kombu_core.virtual.transport import VirtualTransport
from kombu_redis.connections import RedisConnections, Wire
from kombu_redis.layout import Layout
from kombu_redis.options import RedisOptions
from kombu_redis.store import RedisStore

DEFAULT_PORT: Final = 6379
#: A blocking command asks for less than this share of the socket's timeout.
_SLICE_SHARE: Final = 0.5
_LONGEST_SLICE: Final = 1.0

_CERT_REQS: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


class RedisTransport(VirtualTransport):
    """AMQP on Redis 6.2 or Valkey.

    Raises:
        ConfigurationError: From the constructor: an unknown option, or a bad virtual host.
    """

    driver_type: ClassVar[str] = "redis"
    driver_name: ClassVar[str] = "redis-py"

    def __init__(self, parameters: TransportParameters) -> None:
        url = parameters.url
        self._options = parse_options(
            RedisOptions,
            {**url.query, **parameters.options},
            source=f"the options of the {url.scheme} transport",
        )
        self._database = _database(url.virtual_host)
        self._context = _ssl_context(parameters, self._options)
        super().__init__(parameters, lease=self._options.lease)

    def open_store(self) -> RedisStore:
        options = self._options
        password = self.parameters.url.password
        connections = RedisConnections(
            self._connection_maker(),
            secrets=(password,) if password else (),
            rest=options.health_check_interval,
            limit=options.max_connections,
            patience=options.socket_timeout,
        )
        connections.open()
        return RedisStore(
            connections,
            Layout(options.prefix, str(self._database)),
            slice_seconds=min(_LONGEST_SLICE, options.socket_timeout * _SLICE_SHARE),
        )

    def _connection_maker(self) -> Callable[[], Wire]:
        """Return what makes a connection; redis-py retries nothing unless it is told to."""
        options, url = self._options, self.parameters.url
        user, password = _credentials(url)
        settings = RedactedDict(
            db=self._database,
            username=options.username if options.username is not None else user,
            password=password,
            socket_timeout=options.socket_timeout,
            socket_connect_timeout=(
                options.socket_connect_timeout or self.parameters.connect_timeout
            ),
            client_name=options.client_name,
            protocol=2,
            command_packer=_packer(),
        )
        kind: Any
        if url.socket_path is not None:
            kind = UnixDomainSocketConnection
            settings["path"] = url.socket_path
        else:
            kind = Connection
            settings["host"] = url.hostname or "localhost"
            settings["port"] = url.port or DEFAULT_PORT
            settings["socket_keepalive"] = True
        if self._context is not None:
            kind = _TLSConnection
            settings["context"] = self._context
        return lambda: cast("Wire", kind(**settings))


def _credentials(url: BrokerURL) -> tuple[str | None, str | None]:
    """Return user and password; none for AMQP's default, which is `guest` for both.

    A server without passwords would refuse it, and one with passwords has no such user.
    """
    password = url.password.reveal() if url.password else None
    if (url.userid, password) == ("guest", "guest"):
        return None, None
    return url.userid, password


def _packer() -> Any:
    """Return hiredis' packing without redis-py's look at each word; None: redis-py's own."""
    try:
        from hiredis import pack_command
    except ImportError:
        return None

    class Packer:
        def pack(self, *words: Any) -> list[bytes]:
            return [pack_command(words)]

    return Packer()


class _TLSConnection(Connection):
    """A TCP connection in the TLS of a given context."""

    def __init__(self, *, context: ssl.SSLContext, **settings: Any) -> None:
        self._context = context
        super().__init__(**settings)  # type: ignore[no-untyped-call]

    def _connect(self) -> ssl.SSLSocket:
        plain = super()._connect()  # type: ignore[no-untyped-call]
        try:
            return self._context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def _database(virtual_host: str | None) -> int:
    """Return the number of the database; `/` and nothing mean 0."""
    text = (virtual_host or "0").strip("/") or "0"
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError(
            f"The virtual host of a Redis URL is the number of a database, not {virtual_host!r}"
        )
    return int(text)


def _ssl_context(parameters: TransportParameters, options: RedisOptions) -> ssl.SSLContext | None:
    """Return the context for TLS, verifying unless told otherwise; None for a plain connection."""
    given = parameters.ssl
    if isinstance(given, ssl.SSLContext):
        return given
    if given is False or (given is None and parameters.url.scheme != "rediss"):
        return None
    if parameters.url.socket_path is not None:
        raise ConfigurationError("There is no TLS on a unix socket")
    try:
        context = ssl.create_default_context(cafile=options.ssl_ca_certs)
        if options.ssl_certfile:
            secret = options.ssl_keyfile_password
            context.load_cert_chain(
                options.ssl_certfile, options.ssl_keyfile, secret.reveal() if secret else None
            )
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"A file of the ssl options cannot be used: {exc}") from exc
    # In this order: a context that checks host names does not let go of verifying.
    context.check_hostname = options.ssl_check_hostname and options.ssl_cert_reqs != "none"
    context.verify_mode = _CERT_REQS[options.ssl_cert_reqs]
    return context
