"""Consuming in batches: a callback gets many messages at once, and settles them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, overload

from kombu_core.consumer import Consumer
from kombu_core.entity import Queue
from kombu_core.exceptions import ConfigurationError, NothingCameError
from kombu_core.message import Message

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kombu_core.connection import Connection


class Batch(Sequence[Message]):
    """Messages in the order in which they came. Settle them together, or each by itself."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = tuple(messages)

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def ack(self) -> None:
        """Acknowledge all that were not settled one by one."""
        for message in self._unsettled():
            message.ack()

    def reject(self, requeue: bool = False) -> None:
        """Refuse all that were not settled one by one."""
        for message in self._unsettled():
            message.reject(requeue)

    def requeue(self) -> None:
        """Put back all that were not settled one by one, to their old places."""
        self.reject(requeue=True)

    def _unsettled(self) -> Iterator[Message]:
        return (message for message in self._messages if not message.acknowledged)


BatchCallback = Callable[[Batch], object]


class BatchConsumer:
    """Consumes from queues on a channel of its own. Belongs to one thread at a time.

        with BatchConsumer(connection, [queue], store_all, size=500, wait=0.5) as consumer:
            while True:
                consumer.drain_events()

    Args:
        connection: Of the broker.
        queues: One or several.
        callback: Called with each batch; what it leaves unsettled stays unacknowledged.
        size: Messages in a batch, at most; also the limit of what is unacknowledged.
        wait: Seconds after the first message of a batch, when it is full enough.
    """

    def __init__(
        self,
        connection: Connection,
        queues: Iterable[Queue] | Queue,
        callback: BatchCallback,
        *,
        size: int = 100,
        wait: float = 1.0,
    ) -> None:
        if size < 1 or wait < 0:
            raise ConfigurationError(f"A batch of {size} messages in {wait} s makes no sense")
        self.callback = callback
        self.size = size
        self.wait = wait
        self._connection = connection
        self._messages: list[Message] = []
        self._consumer = Consumer(
            connection.channel(), queues, on_message=self._messages.append, prefetch_count=size
        )

    def consume(self) -> None:
        """Begin to consume."""
        self._consumer.consume()

    def cancel(self) -> None:
        """Stop, and requeue what no callback got yet."""
        self._consumer.cancel()
        messages, self._messages[:] = list(self._messages), []
        for message in reversed(messages):
            message.requeue()

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one batch, and give it to the callback.

        Args:
            timeout: Seconds for its first message; None waits until one comes.

        Raises:
            OperationTimeoutError: Nothing came.
            ConnectionLostError: The broker went away; what was collected comes again.
        """
        if not self._messages:
            self._connection.drain_events(timeout)
        deadline = monotonic() + self.wait
        try:
            while len(self._messages) < self.size and (left := deadline - monotonic()) > 0:
                self._connection.drain_events(left)
        except NothingCameError:
            pass
        if self._messages:
            batch, self._messages[:] = Batch(self._messages), []
            self.callback(batch)

    def __enter__(self) -> Self:
        self.consume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._consumer.channel.is_open:
            self.cancel()
            self._consumer.channel.close()
