"""The options of the Redis transport, from the URL's query and `transport_options`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kombu_core.url import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """What can be set; every duration is in seconds.

    Attributes:
        prefix: What the names of all keys begin with. Applications that differ in it share
            nothing.
        lease: How long a session lives without a sign of life; a dead consumer's messages are
            delivered to others after that.
        socket_timeout: Longest wait for one reply, and for one write.
        socket_connect_timeout: Longest wait for a connection; None: the connect timeout of the
            `Connection`.
        health_check_interval: A connection that was idle for longer is asked whether it is alive
            before it is used.
        max_connections: How many sockets one transport may open; None: any number. Each thread
            that talks at the same time takes one, and one that waits keeps it; who finds none
            for as long as `socket_timeout` gets `ConnectionLimitExceededError`.
        client_name: For `CLIENT LIST`; None: none.
        username: User of the access control list; the URL's user if None.
        ssl_ca_certs: File with the certificates of the authorities to trust; None: the system's.
        ssl_certfile: File with the client's certificate.
        ssl_keyfile: File with its key.
        ssl_keyfile_password: Password of that key.
        ssl_cert_reqs: `none` accepts any server, and anybody between.
        ssl_check_hostname: Whether the certificate has to be the host's.
    """

    prefix: str = "kombu"
    lease: float = 30.0
    socket_timeout: float = 10.0
    socket_connect_timeout: float | None = None
    health_check_interval: float = 5.0
    max_connections: int | None = None
    client_name: str | None = None
    username: str | None = None
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: Secret | None = None
    ssl_cert_reqs: Literal["required", "optional", "none"] = "required"
    ssl_check_hostname: bool = True

    def __post_init__(self) -> None:
        if not self.prefix or set(self.prefix) & set("{}"):
            raise ValueError("prefix must not be empty or contain a brace")
        for name in ("lease", "socket_timeout", "health_check_interval"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.socket_connect_timeout is not None and self.socket_connect_timeout <= 0:
            raise ValueError("socket_connect_timeout must be more than 0")
        if self.max_connections is not None and self.max_connections < 2:
            raise ValueError("max_connections must be at least 2: one waits, one works")
