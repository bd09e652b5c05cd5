"""What a connection tells about itself: where it leads, and nothing that is secret."""

from __future__ import annotations

from typing import Any

from kombu_core.url import BrokerURL


class Described:
    """The part of a `Connection` that only looks."""

    _urls: tuple[BrokerURL, ...]
    _current: int
    _ssl: Any
    connect_timeout: float
    heartbeat: float | None
    transport_options: dict[str, Any]

    @property
    def url(self) -> BrokerURL:
        """The URL in use, or to be tried next."""
        return self._urls[self._current]

    @property
    def hostname(self) -> str | None:
        """Host of the URL in use."""
        return self.url.hostname

    @property
    def port(self) -> int | None:
        """Port of the URL in use, None for the transport's own."""
        return self.url.port

    @property
    def userid(self) -> str | None:
        """User of the URL in use."""
        return self.url.userid

    @property
    def virtual_host(self) -> str | None:
        """Virtual host of the URL in use, None for the transport's own."""
        return self.url.virtual_host

    @property
    def host(self) -> str:
        """Host and port of the URL in use, as `localhost:5672`."""
        url = self.url
        return f"{url.hostname or ''}:{url.port}" if url.port else url.hostname or ""

    def as_uri(self, include_password: bool = False, mask: str = "**") -> str:
        """Return the URL in use; the password hidden unless asked for."""
        return self.url.as_uri(include_password=include_password, mask=mask)

    def info(self) -> dict[str, Any]:
        """Return what the connection is made of, with nothing secret in it."""
        url = self.url
        return {
            "hostname": url.hostname,
            "userid": url.userid,
            "virtual_host": url.virtual_host,
            "port": url.port,
            "transport": url.scheme,
            "connect_timeout": self.connect_timeout,
            "heartbeat": self.heartbeat,
            "ssl": bool(self._ssl),
            "transport_options": sorted(self.transport_options),
            "uri": url.as_uri(),
            "alternates": [other.as_uri() for other in self._urls if other is not url],
        }
