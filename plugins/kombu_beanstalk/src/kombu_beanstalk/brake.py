"""Makes beanstalkd notice that a time to run is over.

beanstalkd 1.12 reads its clock, goes through all tubes, and then takes each connection whose time
has come off its list; that one's jobs it takes back only if the clock shows a later microsecond
than their last one. An idle server looks again and again towards the end, so more often than not
the clock shows the very same: the jobs stay reserved until the connection does something (issue 262
of beanstalkd). With many tubes to go through it takes longer than a microsecond, and nothing is
overlooked. So whoever finds that a process hangs gives the server that many, for as long as the
claims of a process that hangs can last.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Final

from kombu_beanstalk.layout import Layout
from kombu_beanstalk.wire import Wire
from kombu_beanstalk.wires import Wires

#: Tubes that take a server some microseconds; measured: 600 are enough, 300 are not always.
_TUBES: Final = 2000


class Brake:
    """Slows the server down, a little and for a while. Thread-safe.

    Args:
        seconds: For how long; whole seconds.
    """

    def __init__(self, wires: Wires, layout: Layout, *, seconds: int) -> None:
        self._wires = wires
        self._layout = layout
        self._seconds = seconds
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._ends = float("-inf")

    def pull(self) -> None:
        """Slow the server down from now on; it ends that by itself.

        Its replies are never read: they fit into the buffers of the socket.
        """
        with self._lock:
            with self._wires.at_border(self._wires.take("wait")) as wire:
                tubes = [self._layout.brake(number) for number in range(_TUBES)]
                wait = b"reserve-with-timeout %d" % self._seconds
                wire.send([*wire.follow(tubes), wait, b"quit"])
            self._close()  # What it had, not before.
            self._wire = wire
            self._ends = monotonic() + self._seconds

    def tidy(self) -> None:
        """Let go of what is over."""
        with self._lock:
            if monotonic() > self._ends:
                self._close()

    def close(self) -> None:
        """Let go of the server. Idempotent."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            self._wires.discard(wire)
