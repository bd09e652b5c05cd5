"""Connections that all threads of a process share, by their URLs."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Final

from kombu_core.connection import Connection

_shared: Final[dict[str, Connection]] = {}
_lock: Final = threading.Lock()


def shared(name: str, make: Callable[[], Connection]) -> Connection:
    """Return the connection of a name; it is made when it is asked for first.

    It connects when it is used. A forked child has one of its own.
    """
    with _lock:
        found = _shared.get(name)
        if found is None:
            found = _shared[name] = make()
        return found


def close_shared() -> None:
    """Close the shared connections; the next use makes new ones. Called when the process ends."""
    with _lock:
        found = list(_shared.values())
        _shared.clear()
    for connection in found:
        connection.release()


atexit.register(close_shared)
