"""The background thread of a connection: renews its lease, sends late acks, cleans after the dead.

It starts when a connection first claims or owns something, so that a mere publisher has none. It
holds no strong reference to its work, and ends when that is collected or closed.
"""

from __future__ import annotations

import logging
import threading
import weakref
from time import monotonic
from typing import Protocol

from kombu_core.exceptions import KombuError

logger = logging.getLogger(__name__)


class Upkeep(Protocol):
    """What a keeper keeps."""

    def upkeep(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds); return when to come again."""
        ...


class Keeper:
    """Calls `upkeep` in a daemon thread whenever it is due. Thread-safe."""

    def __init__(self, work: Upkeep, *, name: str) -> None:
        self._work = weakref.ref(work)
        self._wake = threading.Condition()
        self._due = monotonic()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hurry(self, due: float) -> None:
        """Come at `due` (monotonic seconds), if that is earlier than planned."""
        with self._wake:
            if due < self._due:
                self._due = due
                self._wake.notify()

    def stop(self) -> None:
        """End the thread, and wait until it has; does nothing in the thread itself."""
        with self._wake:
            self._is_stopped = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._is_stopped and (left := self._due - monotonic()) > 0:
                    # Not longer than this, to notice that the work was collected.
                    self._wake.wait(min(left, 1.0))
                    if self._work() is None:
                        return
                if self._is_stopped:
                    return
                self._due = float("inf")
            due = self._keep()
            if due is None:
                return
            self.hurry(due)

    def _keep(self) -> float | None:
        work = self._work()
        if work is None:
            return None
        try:
            return work.upkeep(monotonic())
        except KombuError as error:
            # The next call on the connection will meet the same trouble and raise it there.
            logger.warning("Upkeep failed, trying again: %s", error)
        except Exception:
            # Without a keeper the lease would run out: it ends for no defect of a store.
            logger.exception("Upkeep failed, trying again")
        return monotonic() + 1.0
