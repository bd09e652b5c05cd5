"""The words of a random program: what an application may ask of a broker, one dataclass each.

A step names exchanges, queues, channels and consumers by short labels; the side that runs it makes
the real names. It returns what the application gets to see at once; see `side` for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kombu_core.message import Envelope
from kombu_core.transport import Publication

if TYPE_CHECKING:
    from tests.integration.differential.side import Side

#: Seconds: a time to live that ends within a program, if it waits for that.
SHORT: Final = 0.25
SHORT_MS: Final = int(SHORT * 1000)
#: Milliseconds: one that does not.
LONG_MS: Final = 600_000
#: `Settle.which` for a delivery tag that there is not.
UNKNOWN: Final = 9


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an application."""

    def do(self, side: Side) -> Any:
        """Run it; what it returns, or the error that it raises, is compared."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class OnChannel(Step):
    """A step on one channel: `a0`, `a1` of the first connection, `b0` of the second."""

    channel: str


# -- topology --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeclareExchange(OnChannel):
    exchange: str
    type: str = "direct"
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    alternate: str | None = None

    def do(self, side: Side) -> None:
        arguments = {}
        if self.alternate is not None:
            arguments["alternate-exchange"] = side.name(self.alternate)
        side.open(self.channel).exchange_declare(
            side.name(self.exchange),
            self.type,
            passive=self.passive,
            durable=self.durable,
            auto_delete=self.auto_delete,
            internal=self.internal,
            arguments=arguments,
        )
        side.exchange_is_there(self.exchange)


@dataclass(frozen=True, slots=True)
class DeleteExchange(OnChannel):
    exchange: str
    if_unused: bool = False

    def do(self, side: Side) -> None:
        side.open(self.channel).exchange_delete(side.name(self.exchange), if_unused=self.if_unused)


@dataclass(frozen=True, slots=True)
class DeclareQueue(OnChannel):
    queue: str
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Let the broker make its name.
    unnamed: bool = False

    def do(self, side: Side) -> tuple[int, int]:
        declared = side.open(self.channel).queue_declare(
            "" if self.unnamed else side.name(self.queue),
            passive=self.passive,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=self.auto_delete,
            arguments=side.arguments(self.arguments),
        )
        side.queue_is_there(self, declared.queue)
        return declared.message_count, declared.consumer_count


@dataclass(frozen=True, slots=True)
class DeleteQueue(OnChannel):
    queue: str
    if_unused: bool = False
    if_empty: bool = False

    def do(self, side: Side) -> int:
        return side.open(self.channel).queue_delete(
            side.name(self.queue), if_unused=self.if_unused, if_empty=self.if_empty
        )


@dataclass(frozen=True, slots=True)
class PurgeQueue(OnChannel):
    queue: str

    def do(self, side: Side) -> int:
        return side.open(self.channel).queue_purge(side.name(self.queue))


@dataclass(frozen=True, slots=True)
class Bind(OnChannel):
    """Bind or unbind a queue or an exchange; which one, the label tells."""

    destination: str
    exchange: str
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    undo: bool = False

    def do(self, side: Side) -> None:
        kind = "exchange" if self.destination.startswith("e") else "queue"
        method = f"{kind}_{'unbind' if self.undo else 'bind'}"
        getattr(side.open(self.channel), method)(
            side.name(self.destination),
            side.name(self.exchange),
            side.name(self.key),
            dict(self.arguments),
        )


# -- messages --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """What is published; its body is a number that no other message of the program has."""

    exchange: str
    key: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    mandatory: bool = False
    #: Bytes that the body has at least.
    size: int = 0

    def publication(self, side: Side) -> Publication:
        """Return it as it is published next."""
        envelope = Envelope(
            side.next_body(self.size),
            dict(self.properties),  # type: ignore[arg-type]
            dict(self.headers),
            side.name(self.exchange),
            side.name(self.key),
        )
        return Publication(envelope, self.mandatory)


@dataclass(frozen=True, slots=True)
class Publish(OnChannel):
    message: Message

    def do(self, side: Side) -> None:
        publication = self.message.publication(side)
        channel = side.open(self.channel)
        channel.basic_publish(publication.envelope, mandatory=publication.mandatory)
        side.await_verdict(self.channel, (self.message,))


@dataclass(frozen=True, slots=True)
class PublishBatch(OnChannel):
    messages: tuple[Message, ...]

    def do(self, side: Side) -> None:
        publications = [message.publication(side) for message in self.messages]
        side.may_put_many(self.channel, self.messages)
        side.open(self.channel).basic_publish_batch(publications)
        side.await_verdict(self.channel, self.messages)


@dataclass(frozen=True, slots=True)
class Get(OnChannel):
    queue: str
    no_ack: bool = False

    def do(self, side: Side) -> Any:
        found = side.open(self.channel).basic_get(side.name(self.queue), no_ack=self.no_ack)
        if found is None:
            return None
        if not self.no_ack:
            side.hold(self.channel, self.queue, found)
        return side.seen(found)


@dataclass(frozen=True, slots=True)
class Consume(OnChannel):
    queue: str
    consumer: str
    no_ack: bool = False
    exclusive: bool = False
    priority: int | None = None

    def do(self, side: Side) -> None:
        side.consume(self)


@dataclass(frozen=True, slots=True)
class Cancel(Step):
    consumer: str

    def do(self, side: Side) -> None:
        side.cancel(self.consumer)


@dataclass(frozen=True, slots=True)
class Settle(OnChannel):
    """Settle one of the channel's unsettled deliveries, or several."""

    verb: str  # ack, nack, reject
    which: int
    multiple: bool = False
    requeue: bool = True

    def do(self, side: Side) -> Any:
        channel = side.open(self.channel)
        if self.multiple and self.verb == "nack" and self.requeue:
            side.may_return_many()
        elif self.multiple and self.verb == "nack":
            side.may_settle(self.channel)
        tag, multiple = side.release(self.channel, self.which, self.multiple)
        if self.verb == "ack":
            channel.basic_ack(tag, multiple)
        elif self.verb == "nack":
            channel.basic_nack(tag, multiple, self.requeue)
        else:
            channel.basic_reject(tag, self.requeue)


@dataclass(frozen=True, slots=True)
class Recover(OnChannel):
    def do(self, side: Side) -> None:
        side.may_return_many()
        channel = side.open(self.channel)
        side.forget(self.channel)
        channel.basic_recover()


@dataclass(frozen=True, slots=True)
class Qos(OnChannel):
    count: int
    apply_global: bool = False

    def do(self, side: Side) -> None:
        if self.apply_global:
            side.may_limit(self.channel)
        side.open(self.channel).basic_qos(0, self.count, self.apply_global)


# -- transactions, channels, connections, time -----------------------------------------------


@dataclass(frozen=True, slots=True)
class Tx(OnChannel):
    what: str  # select, commit, rollback

    def do(self, side: Side) -> None:
        channel = side.open(self.channel)
        if self.what == "commit":
            side.may_commit(self.channel)
        getattr(channel, f"tx_{self.what}")()
        side.transact(self.channel, self.what)


@dataclass(frozen=True, slots=True)
class CloseChannel(OnChannel):
    def do(self, side: Side) -> None:
        side.may_return_many()
        side.open(self.channel).close()


@dataclass(frozen=True, slots=True)
class CloseConnection(Step):
    connection: str
    #: The process dies instead of saying goodbye.
    kill: bool = False

    def do(self, side: Side) -> None:
        side.close_connection(self.connection, kill=self.kill)


@dataclass(frozen=True, slots=True)
class Elapse(Step):
    """Wait until everything has expired that does so within a program; done by the machine."""

    def do(self, side: Side) -> None:
        return None
