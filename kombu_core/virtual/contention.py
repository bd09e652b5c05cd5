"""When other transactions are in the way: trying again, and taking turns within a process."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a transaction runs again that another one got in the way of.
_TRIES: Final = 12
#: Seconds before the second try, at most; doubled each time.
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.25


def try_again(
    attempt: Callable[[], T], is_in_the_way: Callable[[Exception], bool], patience: float
) -> T:
    """Call `attempt` until it returns.

    Args:
        attempt: It leaves nothing behind if it raises.
        is_in_the_way: Tells whether an error means that another transaction was in the way, which
            may be gone next time. Every other error is raised.
        patience: Seconds after which that error is raised, too.
    """
    pause = _FIRST_PAUSE
    deadline = time.monotonic() + patience
    tries = 0
    while True:
        try:
            return attempt()
        except Exception as error:
            tries += 1
            if tries == _TRIES or time.monotonic() > deadline or not is_in_the_way(error):
                raise
            logger.debug("Another transaction was in the way: %s", error)
        time.sleep(random.uniform(0.5, 1.0) * pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


class _Turns:
    """A lock that is given to who waited longest, so that nobody waits in vain."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._is_taken = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            mine.acquire()
        except BaseException:
            with self._lock:
                is_given = mine not in self._waiting
                if not is_given:
                    self._waiting.remove(mine)
            if is_given:
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False


_turns: dict[str, _Turns] = {}
_turns_lock = threading.Lock()


def turn(file: str | None) -> AbstractContextManager[object]:
    """Return what the threads of this process that write to one file of SQLite pass by turns.

    So they need not find out by trying, and a thread that renews a lease is not kept from it by
    those that publish. Without a file it is passed by all at once.
    """
    if file is None:
        return nullcontext()
    with _turns_lock:
        return _turns.setdefault(file, _Turns())


def _after_fork() -> None:
    global _turns_lock
    _turns_lock = threading.Lock()
    _turns.clear()


os.register_at_fork(after_in_child=_after_fork)
