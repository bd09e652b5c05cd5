"""Calling methods of one channel, and what that meets when the channel or the connection goes."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kombu_amqp import frames, methods
from kombu_amqp.errors import again
from kombu_core.exceptions import (
    BrokerError,
    ChannelError,
    KombuError,
    OperationTimeoutError,
)

if TYPE_CHECKING:
    from kombu_amqp.driver import DriverChannel
    from kombu_amqp.transport import AmqpTransport


class ChannelCalls(ABC):
    """A driver's channel, called by whoever holds the wire's lock."""

    def __init__(self, transport: AmqpTransport, driver: DriverChannel) -> None:
        self._transport = transport
        self.bind(driver)

    def bind(self, driver: DriverChannel) -> None:
        """Use a driver's channel from now on."""
        self._driver = driver
        #: On the wire.
        self.number = driver.number
        #: Held around a call and its answer, outside of the wire's: one call at a time.
        self.turn = threading.Lock()
        self._calls = 0
        self._asking = b""
        self._error: BrokerError | None = None

    @property
    def transport(self) -> AmqpTransport:
        return self._transport

    @property
    def is_open(self) -> bool:
        return self._error is None and self._transport.is_connected

    @abstractmethod
    def flush_acks(self) -> None:
        """Write the acks that wait; they go with whatever is sent next. The lock is held."""

    @abstractmethod
    def fail(self, error: BrokerError) -> None:
        """The channel is gone, for whichever reason. The lock is held."""

    # -- calling the driver ----------------------------------------------------------------

    def _failure(self) -> KombuError | None:
        return None if self._error is None else again(self._error)

    def check(self) -> None:
        """Raise what closed the channel."""
        if self._error is not None:
            raise again(self._error)

    def call_driver(self, method: str, /, *args: Any, timeout: float | None = None) -> Any:
        """Call a method of the driver's channel, both locks held, and return the answer."""
        self._calls += 1
        self._asking = args[0][:4] if method == "ask" else b""
        try:
            with self._transport.calling(self._failure, timeout):
                return getattr(self._driver, method)(*args)
        except OperationTimeoutError:
            # A late answer would be taken for that to another call.
            self.fail(ChannelError(f"{method} was not answered", 504))
            raise
        finally:
            self._asking = b""
            self._calls -= 1

    def _call(self, method: str, /, *args: Any) -> Any:
        wire = self._transport.wire
        with self.turn, wire.lock:
            wire.raise_lost()
            self.check()
            self.flush_acks()
            return self.call_driver(method, *args)

    def _ask(self, method: methods.Method) -> Sequence[Any]:
        """Call a method with a table, and return the arguments of the answer."""
        answer: Sequence[Any] = self._call("ask", *method)
        return answer

    def is_asking(self, method: bytes) -> bool:
        """Whether the answer to that class and method is waited for."""
        return self._asking == method

    def send_methods(self, requests: Iterable[methods.Method]) -> None:
        """Send methods that have no answers; what goes wrong closes the channel."""
        wire = self._transport.wire
        with wire.lock:
            for method in requests:
                wire.write(frames.frame(frames.METHOD, self.number, method.payload))
            wire.flush()

    def _close_driver(self) -> None:
        try:
            with self._transport.calling():
                self._driver.close()
        except KombuError:
            pass  # it is gone either way
