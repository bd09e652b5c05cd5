"""What a connection is made with: host, virtual host, TLS and credentials, from URL and options."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kombu_amqp.options import AmqpOptions
from kombu_core.exceptions import ConfigurationError
from kombu_core.options import parse_options
from kombu_core.transport import TransportParameters
from kombu_core.url import Secret

PORT: Final = 5672
TLS_PORT: Final = 5671
DEFAULT_HEARTBEAT: Final = 60.0
#: RabbitMQ's own user, which it accepts from this machine only.
DEFAULT_USER: Final = "guest"
TLS_SCHEMES: Final = frozenset({"amqps", "pikas"})

_CERT_REQS: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One broker, and how to introduce oneself to it. Times are in seconds."""

    host: str
    port: int
    virtual_host: str
    userid: str
    password: Secret
    #: None for a plain connection.
    tls: ssl.SSLContext | None
    server_name: str
    connect_timeout: float
    heartbeat: int
    options: AmqpOptions = field(repr=False)

    @property
    def client_properties(self) -> Mapping[str, Any]:
        """What to tell the broker, beside what the driver says of itself."""
        program = Path(sys.argv[0] or "python").name
        name = self.options.connection_name or f"{program}:{os.getpid()}"
        return {"connection_name": name, **self.options.client_properties}


def endpoint_of(parameters: TransportParameters) -> Endpoint:
    """Read the URL and the options.

    A virtual host that is absent, `/` or `%2F` is `/`; everything else is taken as it is, percent
    decoded.

    Raises:
        ConfigurationError: An option is unknown or bad, or a file of the ssl options is.
    """
    url = parameters.url
    options = parse_options(
        AmqpOptions,
        {**url.query, **parameters.options},
        source=f"the options of the {url.scheme} transport",
    )
    tls = _tls_context(parameters, options)
    heartbeat = options.heartbeat
    if heartbeat is None:
        heartbeat = DEFAULT_HEARTBEAT if parameters.heartbeat is None else parameters.heartbeat
    host = url.hostname or "localhost"
    return Endpoint(
        host=host,
        port=url.port or (TLS_PORT if tls is not None else PORT),
        virtual_host=url.virtual_host or "/",
        userid=url.userid if url.userid is not None else DEFAULT_USER,
        password=url.password or Secret(DEFAULT_USER if url.userid is None else ""),
        tls=tls,
        server_name=options.ssl_server_name or host,
        connect_timeout=options.socket_connect_timeout or parameters.connect_timeout,
        # On the wire it is whole seconds, and 0 means none.
        heartbeat=max(1, round(heartbeat)) if heartbeat else 0,
        options=options,
    )


def _tls_context(parameters: TransportParameters, options: AmqpOptions) -> ssl.SSLContext | None:
    """Return the context for TLS, verifying unless told otherwise; None for a plain connection."""
    given = parameters.ssl
    if isinstance(given, ssl.SSLContext):
        return given
    if given is False or (given is None and parameters.url.scheme not in TLS_SCHEMES):
        return None
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
