"""What both transports ask of a driver: to make a connection and to speak all but the messages."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, ClassVar, Protocol

from kombu_amqp.errors import late_error
from kombu_amqp.parameters import Endpoint
from kombu_amqp.wire import Wire
from kombu_core.exceptions import KombuError, map_errors

#: Says what went wrong with that for which somebody waits, None while nothing did.
Failure = Callable[[], KombuError | None]


def _no_failure() -> None:
    return None


class DriverChannel(Protocol):
    """A driver's channel. The wire's lock is held around every method, and let go while waiting."""

    number: int

    def ask(self, payload: bytes, answer: tuple[int, int]) -> Sequence[Any]:
        """Send a method and return the arguments of the answer, given by class and method."""
        ...

    def exchange_delete(self, exchange: str, if_unused: bool) -> None: ...

    def queue_purge(self, queue: str) -> int: ...

    def queue_delete(self, queue: str, if_unused: bool, if_empty: bool) -> int: ...

    def basic_qos(self, prefetch_size: int, prefetch_count: int, apply_global: bool) -> None: ...

    def basic_recover(self) -> None: ...

    def confirm_select(self) -> None: ...

    def tx_select(self) -> None: ...

    def tx_commit(self) -> None: ...

    def tx_rollback(self) -> None: ...

    def close(self) -> None: ...


class Link(ABC):
    """A driver's connection over a wire. The wire's lock is held around every method."""

    #: What the driver raises, and what that is here.
    errors: ClassVar[Mapping[type[BaseException], type[Any]]]

    def __init__(self, wire: Wire, endpoint: Endpoint) -> None:
        self.wire = wire
        self.endpoint = endpoint
        self._calls = threading.local()

    @property
    @abstractmethod
    def heartbeat(self) -> float:
        """Seconds, as agreed on with the broker; 0: none."""

    @property
    @abstractmethod
    def frame_max(self) -> int:
        """Bytes, as agreed on with the broker."""

    @abstractmethod
    def open(self) -> None:
        """Introduce, authenticate, tune and open the virtual host."""

    @abstractmethod
    def open_channel(self) -> DriverChannel:
        """Open a channel.

        Raises:
            ChannelLimitExceededError: All that were agreed on are open.
        """

    @abstractmethod
    def feed(self, kind: int, channel: int, payload: bytes) -> None:
        """Take in a frame that is the driver's to read."""

    @abstractmethod
    def close(self) -> None:
        """Say goodbye and wait for the answer."""

    @contextmanager
    def calling(self, timeout: float, failure: Failure | None = None) -> Iterator[None]:
        """Bound all waiting of this thread inside, and turn the driver's errors into ours.

        Raises:
            OperationTimeoutError: No answer came within `timeout` seconds.
        """
        calls = self._calls
        before = getattr(calls, "current", None)
        calls.current = (monotonic() + timeout, failure or _no_failure)
        try:
            with map_errors(self.errors, redact=(self.endpoint.password,)):
                yield
        finally:
            calls.current = before

    def wait(self, done: Callable[[], object]) -> None:
        """Wait for what the broker answers; for the driver, inside of `calling`."""
        deadline, failure = self._calls.current
        if not self.wire.wait(lambda: done() or failure() is not None, deadline):
            raise late_error("The broker did not answer in time", self.wire.blocked)
        error = failure()
        if error is not None:
            raise error
