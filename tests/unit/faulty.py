"""A transport that fails when it is told to, for tests of what stands above transports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from kombu_core import Connection
from kombu_core.exceptions import ConnectionLostError
from kombu_core.hookspecs import hookimpl
from kombu_core.memory import MemoryTransport
from kombu_core.plugins import Plugins
from kombu_core.serialization import Registry
from kombu_core.transport import TransportParameters
from kombu_core.url import parse

_hosts = count()


@dataclass
class Faults:
    """What the scheme `faulty://` does wrong, and what was done with it."""

    plugins: Plugins
    registry: Registry
    #: Errors that the next attempts to connect raise.
    connect: list[Exception] = field(default_factory=list)
    transports: list[FaultyTransport] = field(default_factory=list)
    #: Keeps the virtual host alive while nobody is connected.
    keeper: Connection = field(default_factory=lambda: Connection(f"memory://f{next(_hosts)}"))

    def open(self, **options: Any) -> Connection:
        """Return a connection that is not connected yet."""
        return Connection("faulty://", plugins=self.plugins, **options)

    def observe(self, **hooks: Callable[..., object]) -> None:
        """Implement hooks."""
        marked = {name: hookimpl(hook) for name, hook in hooks.items()}
        self.plugins.register(SimpleNamespace(**marked))


class FaultyTransport(MemoryTransport):
    """The memory transport, with faults."""

    faults: Faults

    def __init__(self, parameters: TransportParameters) -> None:
        url = parse(self.faults.keeper.as_uri())
        super().__init__(parameters._replace(url=url))
        self.given = parameters
        self.faults.transports.append(self)

    def connect(self) -> None:
        if self.faults.connect:
            raise self.faults.connect.pop(0)
        super().connect()

    def cut(self) -> None:
        """Let the connection be lost."""

        def fail() -> None:
            raise ConnectionLostError("it was cut")

        with suppress(ConnectionLostError):
            self.parts.session.claiming(fail)
