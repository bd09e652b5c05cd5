"""A work queue whose failures come again, later each time, and end as dead letters."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kombu_core.consumer import Consumer
from kombu_core.entity import Queue
from kombu_core.exceptions import BrokerError, CodecError, ConfigurationError
from kombu_core.message import Envelope, Message

if TYPE_CHECKING:
    from kombu_core.connection import Connection
    from kombu_core.consumer import Callback
    from kombu_core.transport import Channel

__all__ = ["ATTEMPTS_HEADER", "RetryPolicy", "RetryingConsumer", "attempts_of"]

logger = logging.getLogger(__name__)

#: How many attempts there were before this one; absent before the first.
ATTEMPTS_HEADER: Final = "x-attempts"
#: What the last one raised: the type, and the text up to `_LONGEST_TEXT` characters.
ERROR_HEADER: Final = "x-last-error"
#: Where the message was published to at first.
FIRST_EXCHANGE_HEADER: Final = "x-first-exchange"
FIRST_ROUTING_KEY_HEADER: Final = "x-first-routing-key"

_LONGEST_TEXT: Final = 500
#: Headers by which RabbitMQ would deliver the copy to other queues too.
_ADDRESSES: Final = frozenset({"CC", "BCC"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a message that could not be handled comes again, and how often."""

    #: Attempts after the first.
    max_retries: int = 5
    #: Seconds before the second attempt.
    delay: float = 1.0
    #: How many times longer each further delay is than the one before.
    factor: float = 2.0
    #: Seconds that no delay exceeds.
    max_delay: float = 3600.0
    #: Part of each delay, from 0 to 1, that is left to chance; delays only get shorter by it.
    jitter: float = 0.1
    #: What is worth another attempt. Anything else goes to the dead letters at once.
    retry_on: tuple[type[Exception], ...] = (Exception,)
    #: Where messages go that had their last attempt. None: they are rejected, and so go to the
    #: dead-letter exchange of their queue; a queue without one drops them.
    dead_letters: Queue | None = None

    def __post_init__(self) -> None:
        for name in ("max_retries", "delay", "max_delay"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}, which is no amount")
        if not self.factor >= 1 or not 0 <= self.jitter <= 1:
            raise ConfigurationError(
                f"A factor of {self.factor!r} with a jitter of {self.jitter!r} makes no sense"
            )

    def delay_after(
        self, attempts: int, chance: Callable[[], float] = random.random
    ) -> float | None:
        """Return the seconds until the next attempt, None if that many were enough.

        Args:
            attempts: How many failed, 1 or more.
            chance: Returns a number from 0 to 1 for the jitter.
        """
        if attempts > self.max_retries:
            return None
        try:
            grown = self.delay * self.factor ** (attempts - 1)
        except OverflowError:
            grown = self.max_delay
        return min(grown, self.max_delay) * (1.0 - self.jitter * chance())


class RetryingConsumer(Consumer):
    """Consumes from one queue, settles each message itself, and tries again what failed.

    A message is acknowledged when the handler returns. If it raises, a copy is published to the
    queue with a delay, and then the message is acknowledged: a crash between the two makes a
    duplicate and loses nothing. A handler may settle a message itself; then that counts. What
    cannot be decoded is not tried again. Belongs to one thread at a time.

    Args:
        channel: A channel, or a connection, whose default channel is used then.
        queue: Where the work is. It needs a name, for the copies to come back to it.
        handler: Called with (body, message).
        policy: None for the default one.
        prefetch_count: Messages that it takes ahead.
        accept: Serializers or content types that may be decoded; None: the enabled ones.
        **options: Of `Consumer`.

    Raises:
        UnsupportedError: The transport cannot delay messages.
    """

    def __init__(
        self,
        channel: Channel | Connection,
        queue: Queue,
        handler: Callback,
        policy: RetryPolicy | None = None,
        *,
        prefetch_count: int = 1,
        accept: Collection[str] | None = None,
        **options: Any,
    ) -> None:
        if not queue.name:
            raise ConfigurationError("A queue without a name cannot get messages back")
        self.policy = RetryPolicy() if policy is None else policy
        self.handler = handler
        super().__init__(
            channel,
            [queue],
            no_ack=False,
            on_message=self._work,
            prefetch_count=prefetch_count,
            accept=accept,
            **options,
        )
        self.channel.transport.capabilities.require("delay", "retries need it")
        self._queue_name = queue.name
        if self.policy.dead_letters is not None:
            self.policy.dead_letters(self.channel).declare()

    def _work(self, message: Message) -> None:
        try:
            body = message.payload
        except CodecError as error:
            logger.exception("%r cannot be decoded", message)
            self._give_up(message, error, attempts_of(message) + 1)
            return
        try:
            self.handler(body, message)
        except Exception as error:
            if message.acknowledged:
                raise
            self._fail(message, error)
        else:
            if not message.acknowledged:
                message.ack()

    def _fail(self, message: Message, error: Exception) -> None:
        attempts = attempts_of(message) + 1
        delay = self.policy.delay_after(attempts)
        if delay is None or not isinstance(error, self.policy.retry_on):
            logger.error("Attempt %d at %r was the last", attempts, message, exc_info=error)
            self._give_up(message, error, attempts)
            return
        logger.warning("Attempt %d at %r: %r; again in %.1f s", attempts, message, error, delay)
        self._publish(message, error, attempts, self._queue_name, delay)
        message.ack()

    def _give_up(self, message: Message, error: Exception, attempts: int) -> None:
        if self.policy.dead_letters is None:
            message.reject()
            return
        self._publish(message, error, attempts, self.policy.dead_letters.name, 0.0)
        message.ack()

    def _publish(
        self, message: Message, error: Exception, attempts: int, queue: str, delay: float
    ) -> None:
        former = message.envelope
        headers = {
            FIRST_EXCHANGE_HEADER: former.exchange,
            FIRST_ROUTING_KEY_HEADER: former.routing_key,
            **{name: value for name, value in former.headers.items() if name not in _ADDRESSES},
            ATTEMPTS_HEADER: attempts,
            ERROR_HEADER: f"{type(error).__name__}: {error}"[:_LONGEST_TEXT],
        }
        properties = former.properties.copy()
        # It was for the first attempt, and dead letters are kept.
        properties.pop("expiration", None)
        copy = Envelope(former.body, properties, headers, "", queue)
        try:
            self.channel.basic_publish(copy, mandatory=not delay, delay=delay)
        except BrokerError as broken:
            broken.add_note(f"while {message!r} was to be tried again after {error!r}")
            raise


def attempts_of(message: Message) -> int:
    """Return how many attempts at a message there were before this one."""
    found = message.headers.get(ATTEMPTS_HEADER)
    return found if isinstance(found, int) and found > 0 else 0
