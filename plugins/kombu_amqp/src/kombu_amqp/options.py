"""The options of both transports, from the URL's query and `transport_options`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kombu_core.url import Secret

#: AMQP's own bounds (AMQP 0-9-1, section 4.2.3 and connection.tune).
_LEAST_FRAME: Final = 4096
_MOST_CHANNELS: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpOptions:
    """What can be set; every duration is in seconds.

    Attributes:
        confirms: Whether a publish waits for the broker's confirm. Without it nobody learns what
            became of a message; returned mandatory messages come to `on_return` only.
        confirm_timeout: Longest wait for a confirm, unless the publish says otherwise.
        socket_timeout: Longest wait for the answer to any other method.
        socket_connect_timeout: Longest wait for a connection, TLS and authentication; None: the
            connect timeout of the `Connection`.
        heartbeat: Interval to agree on with the broker, which may ask for less; 0 for none; None:
            the heartbeat of the `Connection`, or 60.
        frame_max: Largest frame in bytes to agree on.
        channel_max: Most channels to agree on.
        connection_name: Shown in the broker's list of connections; None: program and process.
        client_properties: More to tell the broker about this client.
        delay_queue_type: Of the queues that hold delayed messages; quorum queues are replicated.
        login_method: SASL mechanism. EXTERNAL takes the user from the client's certificate.
        ssl_ca_certs: File with the certificates of the authorities to trust; None: the system's.
        ssl_certfile: File with the client's certificate.
        ssl_keyfile: File with its key.
        ssl_keyfile_password: Password of that key.
        ssl_cert_reqs: `none` accepts any server, and anybody between.
        ssl_check_hostname: Whether the certificate has to be the host's.
        ssl_server_name: Whose certificate to expect; None: the host's of the URL.
    """

    confirms: bool = True
    confirm_timeout: float = 30.0
    socket_timeout: float = 15.0
    socket_connect_timeout: float | None = None
    heartbeat: float | None = None
    frame_max: int = 131072
    channel_max: int = 2047
    connection_name: str | None = None
    client_properties: Mapping[str, Any] = field(default_factory=dict)
    delay_queue_type: Literal["classic", "quorum"] = "classic"
    login_method: Literal["PLAIN", "AMQPLAIN", "EXTERNAL"] = "PLAIN"
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: Secret | None = None
    ssl_cert_reqs: Literal["required", "optional", "none"] = "required"
    ssl_check_hostname: bool = True
    ssl_server_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("confirm_timeout", "socket_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.socket_connect_timeout is not None and self.socket_connect_timeout <= 0:
            raise ValueError("socket_connect_timeout must be more than 0")
        if self.heartbeat is not None and not 0 <= self.heartbeat <= 65535:
            raise ValueError("heartbeat must be between 0 and 65535")
        if self.frame_max < _LEAST_FRAME:
            raise ValueError(f"frame_max must be at least {_LEAST_FRAME}")
        if not 1 <= self.channel_max <= _MOST_CHANNELS:
            raise ValueError(f"channel_max must be between 1 and {_MOST_CHANNELS}")
