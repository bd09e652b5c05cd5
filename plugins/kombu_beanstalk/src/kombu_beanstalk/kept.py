"""A connection that is kept, because the server gives back what it reserved when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kombu_beanstalk.wire import Reply, Wire
from kombu_beanstalk.wires import Wires


class KeptWire:
    """Opens a connection when it is first needed. For one thread at a time.

    Args:
        wires: Where it comes from.
        lost: Called when it broke; the next use opens another one.
    """

    def __init__(self, wires: Wires, lost: Callable[[], object]) -> None:
        self._wires = wires
        self._lost = lost
        self._wire: Wire | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is one."""
        return self._wire is not None

    def open(self) -> Wire:
        """Return it; what it is asked goes through `ask`."""
        if self._wire is None:
            self._wire = self._wires.take("wait")
        return self._wire

    def ask(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send commands and return their replies.

        Raises:
            ConnectionLostError: It broke, and what it had reserved is the server's again.
        """
        with self._wires.at_border(self.open(), self._forget) as wire:
            return wire.ask(commands)

    def replace(self, wire: Wire) -> None:
        """Keep another one from now on; nothing is reserved by the one before."""
        if self._wire is not None:
            self._wires.give(self._wire, "wait")
        self._wire = wire

    def close(self) -> None:
        """Let it go, and all that it has reserved. Idempotent."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _forget(self) -> None:
        self._wire = None
        self._lost()
