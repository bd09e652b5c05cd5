"""What is known to differ between RabbitMQ and us (docs/model.md), so that programs avoid it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kombu_core.message import Message as Received
from kombu_core.transport import Channel
from tests.integration.differential import steps


class Skipped(Exception):
    """The step makes no sense where the program is, or is a known difference; nobody did it."""


class Subscription(NamedTuple):
    step: steps.Consume
    channel: Channel


class KnownDifferences:
    """Skips steps whose outcome is known to differ, or that nobody promises; a part of a side."""

    #: Consumers by label, and what queues were declared with.
    _consumers: dict[str, Subscription]
    _queue_arguments: dict[str, Mapping[str, Any]]
    #: Unsettled deliveries by channel, with where they came from.
    _held: dict[str, list[tuple[str, Received]]]
    #: What was published in open transactions.
    _uncommitted: dict[str, list[steps.Message]]

    def _is_consuming(self, label: str) -> bool:
        return label in self._consumers and self._consumers[label].channel.is_open

    def may_put_many(self, channel: str, messages: Sequence[steps.Message]) -> None:
        """Skip what puts several messages at once where it matters which comes first.

        RabbitMQ pushes each to a consumer as it comes; a store has them all before the first is
        claimed. And what a full queue pushes out comes to its dead letters while the rest of the
        messages may be on their way there.

        Args:
            channel: The channel that the messages are published on.
            messages: What is published.
        """
        queues = self._queue_arguments.values()
        targets = {(message.exchange, message.key) for message in messages}
        if len(targets) > 1 and any(map(_pushes_out, queues)):
            raise Skipped
        if len(messages) > 1 and any(map(_is_limited, queues)):
            lives = [arguments.get("x-message-ttl") for arguments in queues]
            lives += [message.properties.get("expiration") for message in messages]
            if 0 in lives or "0" in lives:
                raise Skipped  # What is out of time at once leaves some milliseconds later.
        for label, consumer in self._consumers.items():
            if self._is_consuming(label):
                arguments = self._queue_arguments.get(consumer.step.queue, {})
                if consumer.step.channel == channel or any(
                    name.startswith("x-max-") for name in arguments
                ):
                    raise Skipped

    def may_die(self) -> None:
        """Skip the death of a process that may have messages of a queue with a limit."""
        if any(map(_is_limited, self._queue_arguments.values())):
            raise Skipped

    def may_return_many(self) -> None:
        """Skip what gives several messages back at once where a consumer waits for the first.

        RabbitMQ gives back what each consumer had, and what was fetched, one after the other.
        """
        for label, consumer in self._consumers.items():
            arguments = self._queue_arguments.get(consumer.step.queue, {})
            if self._is_consuming(label) and any(name.startswith("x-max-") for name in arguments):
                raise Skipped

    def may_settle(self, channel: str) -> None:
        """Skip what may send messages of several queues to one dead-letter queue at once."""
        sources = {source for source, _ in self._held.get(channel, ())}
        if len(sources) > 1 and any(
            "x-dead-letter-exchange" in arguments for arguments in self._queue_arguments.values()
        ):
            raise Skipped

    def may_limit(self, channel: str) -> None:
        """Skip a limit of a channel that holds what it fetched: RabbitMQ counts that then."""
        if any(source.startswith("q") for source, _ in self._held.get(channel, ())):
            raise Skipped

    def may_commit(self, channel: str) -> None:
        """Skip a commit of what could not be put at once; see `may_put_many`."""
        self.may_put_many(channel, self._uncommitted.get(channel, []))


def _pushes_out(arguments: Mapping[str, Any]) -> bool:
    """Whether a queue has a limit, and a place for what is beyond it."""
    return _is_limited(arguments) and "x-dead-letter-exchange" in arguments


def _is_limited(arguments: Mapping[str, Any]) -> bool:
    return "x-max-length" in arguments or "x-max-length-bytes" in arguments
