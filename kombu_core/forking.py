"""Forks of the process: who has to begin anew in the child is told there."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What holds locks, sockets or threads that a forked child must not use."""

    def forked(self) -> None:
        """Called in the child, before anything else runs there.

        A thread of the parent may have held any lock at that moment, and there is no such thread in
        the child: locks are made anew. What is connected is the parent's, and is let go of without
        a word on it.
        """
        ...


def tell_of_forks(thing: Forkable) -> None:
    """Call `thing.forked()` in every child that is forked while somebody holds it."""
    _told.add(thing)


_told: Final[WeakSet[Forkable]] = WeakSet()


def _forked() -> None:
    for thing in list(_told):
        thing.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
