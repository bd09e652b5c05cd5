"""The plugin of kombu_core for `files:///path/of/a/directory`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from kombu_core.exceptions import ConfigurationError, ConnectError, map_errors
from kombu_core.hookspecs import hookimpl
from kombu_core.options import parse_options
from kombu_core.transport import TransportClass, TransportParameters
from kombu_core.virtual.transport import DEFAULT_LEASE, VirtualTransport
from kombu_files.store import FilesStore

#: The major version of kombu_core's contracts that this was written for.
KOMBU_CONTRACT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesOptions:
    """Options of `files://`, in the URL's query or in `transport_options`."""

    #: Seconds after which another connection has the messages of one that was not heard of.
    lease: float = DEFAULT_LEASE


class FilesTransport(VirtualTransport):
    """AMQP on a directory, which is made if it is not there."""

    driver_type: ClassVar[str] = "files"
    driver_name: ClassVar[str] = "flock"

    def __init__(self, parameters: TransportParameters) -> None:
        url, values = parameters.url, {**parameters.url.query, **parameters.options}
        options = parse_options(FilesOptions, values, source="the options of files://")
        if url.hostname or url.port or url.userid or url.password or not url.virtual_host:
            raise ConfigurationError("It takes the path of a directory and no more: files:///path")
        self._directory = Path("/", url.virtual_host)
        super().__init__(parameters, lease=options.lease)

    def open_store(self) -> FilesStore:
        with map_errors({OSError: ConnectError}):
            return FilesStore(self._directory)


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Serve `files`."""
    return FilesTransport if scheme == "files" else None
