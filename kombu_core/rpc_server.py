"""The side of remote procedure calls that executes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from kombu_core.consumer import Consumer
from kombu_core.entity import Queue
from kombu_core.exceptions import (
    ConfigurationError,
    DeliveryError,
    EncodeError,
    OperationTimeoutError,
)
from kombu_core.message import Message
from kombu_core.mixins import ConsumerProducerMixin
from kombu_core.rpc_wire import read_call, to_queue, write_failure

if TYPE_CHECKING:
    from kombu_core.connection import Connection
    from kombu_core.transport import Channel

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

#: Calls that a server takes from the broker ahead of working on them.
DEFAULT_PREFETCH: Final = 10


class RPCServer(ConsumerProducerMixin):
    """Answers calls, one after the other, until it is told to stop.

        server = RPCServer(connection, "calculator")

        @server.procedure
        def add(a, b):
            return a + b

        server.run()

    A call is acknowledged when its answer is with the broker: if the server dies in between, the
    next one executes the call again. Several servers on one queue share the calls.

    Args:
        connection: Only copies of it are connected.
        queue: Where calls come in; a name stands for a durable queue.
        prefetch_count: Calls that it takes ahead.
        accept: Serializers or content types that calls may have.
        serializer: Of answers.
    """

    def __init__(
        self,
        connection: Connection,
        queue: Queue | str,
        *,
        prefetch_count: int = DEFAULT_PREFETCH,
        accept: Collection[str] = ("json",),
        serializer: str = "json",
    ) -> None:
        self.connection = connection
        self.queue = to_queue(queue)
        #: What can be called, by name.
        self.procedures: dict[str, Callable[..., Any]] = {}
        self._prefetch_count = prefetch_count
        self._accept = accept
        self._serializer = serializer

    @overload
    def procedure(self, function: F) -> F: ...

    @overload
    def procedure(self, *, name: str | None = None) -> Callable[[F], F]: ...

    def procedure(self, function: F | None = None, *, name: str | None = None) -> Any:
        """Let a function be called, by its name or another one; a decorator.

        Raises:
            ConfigurationError: There is one of that name.
        """

        def add(function: F) -> F:
            key = name or function.__name__
            if key in self.procedures:
                raise ConfigurationError(f"There is a procedure {key!r} already")
            self.procedures[key] = function
            return function

        return add if function is None else add(function)

    def stop(self) -> None:
        """Let `run` return when the call that it works on is answered. From any thread."""
        self.should_stop = True

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803
        channel: Channel,
    ) -> list[Consumer]:
        return [
            Consumer(
                [self.queue],
                on_message=self._serve,
                accept=self._accept,
                prefetch_count=self._prefetch_count,
            )
        ]

    def _serve(self, message: Message) -> None:
        try:
            answer: dict[str, Any] = {"result": self._execute(message)}
        except Exception as error:  # noqa: BLE001 (the caller gets it)
            logger.info("A call of %r failed: %r", message.properties.get("type"), error)
            answer = write_failure(error)
        if message.properties.get("reply_to"):
            try:
                self._answer(message, answer)
            except EncodeError as error:
                self._answer(message, write_failure(error))
            except (DeliveryError, OperationTimeoutError) as error:
                logger.error("An answer cannot be delivered: %r", error)
        message.ack()

    def _execute(self, message: Message) -> Any:
        name = message.properties.get("type", "")
        procedure = self.procedures.get(name)
        if procedure is None:
            raise LookupError(f"There is no procedure {name!r}")
        args, kwargs = read_call(message.payload)
        return procedure(*args, **kwargs)

    def _answer(self, message: Message, answer: Mapping[str, Any]) -> None:
        self.producer.publish(
            answer,
            message.properties["reply_to"],
            exchange="",
            correlation_id=message.properties.get("correlation_id"),
            serializer=self._serializer,
            retry=True,
        )
