"""A Hypothesis strategy for programs: some topology first, then steps that mostly make sense.

The writer of a program keeps rough books (what was declared, which channels hold something), so
that most steps do something, and a few name what is not there. Drawing takes time: choices are
made by one small integer each, and the first of a list is the simplest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from hypothesis import strategies as st

from tests.integration.differential.steps import (
    LONG_MS,
    SHORT_MS,
    UNKNOWN,
    Bind,
    Cancel,
    CloseChannel,
    CloseConnection,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Get,
    Message,
    Publish,
    PublishBatch,
    PurgeQueue,
    Qos,
    Recover,
    Settle,
    Step,
    Tx,
)

Program = tuple[Step, ...]
T = TypeVar("T")

_INDEX: Final = [st.integers(0, last) for last in range(64)]
_CHANNELS: Final = ("a0", "a0", "a0", "a1", "b0", "b0")
_ALL_QUEUES: Final = ("q0", "q1", "q2")
_ALL_EXCHANGES: Final = ("e0", "e1", "e2")
_CONSUMERS: Final = ("c0", "c1", "c2")
_TYPES: Final = ("direct", "fanout", "topic", "topic", "headers")
_KEYS: Final = ("a", "a.b", "", "b", "q0", "a.b.c")
_PATTERNS: Final = {
    "direct": ("a", "a.b", "", "b"),
    "topic": ("#", "*", "a.*", "a.#", "#.b", "a", "*.*", "#.#", "a.#.c"),
}
#: At most this many steps after the topology.
_MOST_STEPS: Final = 22


@dataclass(slots=True)
class _Draft:
    """A program while it is written."""

    draw: st.DrawFn
    #: Milliseconds of the messages that expire in it, if any do.
    ttl: int | None
    #: The channel that is transactional, if one is.
    tx: str | None
    queues: list[str] = field(default_factory=list)
    exchanges: dict[str, str] = field(default_factory=dict)
    bindings: list[Bind] = field(default_factory=list)
    #: One entry for each message that may be ready: its queue.
    ready: list[str] = field(default_factory=list)
    #: One for each that may be unsettled: its channel.
    held: list[str] = field(default_factory=list)
    consumers: list[Consume] = field(default_factory=list)

    def pick(self, choices: Sequence[T]) -> T:
        """Choose one, the first ones being simpler."""
        return choices[self.draw(_INDEX[len(choices) - 1])] if len(choices) > 1 else choices[0]

    def once_in(self, times: int) -> bool:
        """Return true once in so many times."""
        return self.draw(_INDEX[times - 1]) == times - 1

    def channel(self) -> str:
        return self.pick(_CHANNELS)

    def queue(self) -> str:
        return self.pick(_ALL_QUEUES if not self.queues or self.once_in(20) else self.queues)

    def exchange(self) -> str:
        there = list(self.exchanges)
        return self.pick(_ALL_EXCHANGES if not there or self.once_in(20) else there)

    def holder(self) -> str:
        """Return a channel that probably holds something."""
        return self.pick(self.held[-24:] or _CHANNELS)

    def published(self, message: Message) -> None:
        """A message is on its way, to the queues that one may think of at a glance."""
        reached = [message.key]
        if message.exchange:
            there = [bind for bind in self.bindings if bind.exchange == message.exchange]
            reached = [bind.destination for bind in there if bind.destination.startswith("q")]
        for queue in reached:
            consumer = next((one for one in self.consumers if one.queue == queue), None)
            if consumer is None:
                self.ready.append(queue)
            elif not consumer.no_ack:
                self.held.append(consumer.channel)


# -- topology --------------------------------------------------------------------------------

_WRONG_ARGUMENTS: Final[tuple[dict[str, Any], ...]] = (
    {"x-max-length": -1},
    {"x-max-length": "3"},
    {"x-max-length-bytes": -1},
    {"x-overflow": "nonsense"},
    {"x-message-ttl": -1},
    {"x-message-ttl": "5"},
    {"x-expires": 0},
    {"x-max-priority": 256},
    {"x-max-priority": -1},
    {"x-dead-letter-exchange": 7},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 7},
    {"x-dead-letter-routing-key": "a"},
    {"x-single-active-consumer": "yes"},
    {"x-queue-mode": "nonsense"},
)
_LIMITS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {},
    {},
    {},
    {"x-max-length": 1},
    {"x-max-length": 2},
    {"x-max-length": 0},
    {"x-max-length-bytes": 9},
    {"x-max-length": 2, "x-max-length-bytes": 4},
)
_OVERFLOWS: Final = (None, None, "drop-head", "reject-publish", "reject-publish-dlx")
# RabbitMQ makes a queue for each priority, which takes time.
_PRIORITIES: Final = (None, None, None, None, 2, 1, 3, 4, 0)
#: Durable, exclusive, auto-delete, unnamed.
_QUEUE_FLAGS: Final = (
    *[(False, False, False, False)] * 14,
    *((True, False, False, False), (False, True, False, False), (False, False, True, False)),
    *((False, False, False, True), (False, True, True, True), (True, True, False, False)),
)
#: Durable, auto-delete, internal.
_EXCHANGE_FLAGS: Final = (
    *[(False, False, False)] * 14,
    *((True, False, False), (False, True, False), (False, True, False), (False, False, True)),
)


def _queue_arguments(draft: _Draft) -> dict[str, Any]:
    if draft.once_in(24):
        return draft.pick(_WRONG_ARGUMENTS)
    arguments = dict(draft.pick(_LIMITS))
    overflow = draft.pick(_OVERFLOWS) if arguments else None
    if overflow is not None:
        arguments["x-overflow"] = overflow
    # What expires in several queues comes to its dead letters in any order.
    if (draft.ttl is None or draft.queues == ["q0"]) and draft.once_in(2):
        arguments["x-dead-letter-exchange"] = draft.pick(("", "", "", *_ALL_EXCHANGES))
        key = draft.pick((*_ALL_QUEUES, *_ALL_QUEUES, None, "a"))
        if key is not None:
            arguments["x-dead-letter-routing-key"] = key
    # When an expired message is noticed that overtook another one is a known difference.
    priority = draft.pick(_PRIORITIES) if draft.ttl is None else None
    if priority is not None:
        arguments["x-max-priority"] = priority
    other = draft.pick((None, None, None, None, None, None, "sac", "ttl", "expires"))
    if other == "sac":
        arguments["x-single-active-consumer"] = True
    elif other == "expires":
        arguments["x-expires"] = LONG_MS
    elif other == "ttl" or (draft.ttl is not None and draft.once_in(2)):
        arguments["x-message-ttl"] = LONG_MS if draft.ttl is None else draft.ttl
    return arguments


def _declare_queue(draft: _Draft, queue: str | None = None) -> Step:
    durable, exclusive, auto_delete, unnamed = draft.pick(_QUEUE_FLAGS)
    passive = queue is None and draft.once_in(3)
    if queue is None:
        queue = draft.pick(_ALL_QUEUES)
    if queue not in draft.queues:
        draft.queues.append(queue)
    return DeclareQueue(
        draft.channel(),
        queue,
        passive=passive,
        durable=durable,
        exclusive=exclusive,
        auto_delete=auto_delete,
        arguments={} if passive else _queue_arguments(draft),
        unnamed=unnamed and not passive,
    )


def _declare_exchange(draft: _Draft, exchange: str | None = None) -> Step:
    durable, auto_delete, internal = draft.pick(_EXCHANGE_FLAGS)
    passive = exchange is None and draft.once_in(3)
    if exchange is None:
        exchange = draft.pick(_ALL_EXCHANGES)
    kind = draft.exchanges.setdefault(exchange, draft.pick(_TYPES))
    return DeclareExchange(
        draft.channel(),
        exchange,
        draft.pick(_TYPES) if draft.once_in(6) else kind,
        passive=passive,
        durable=durable,
        auto_delete=auto_delete,
        internal=internal,
        alternate=draft.pick(_ALL_EXCHANGES) if draft.once_in(5) else None,
    )


_VALUES: Final[tuple[Any, ...]] = (
    *("x", "y", 1, 0, True, None, 1.0, "1", "", False, 0.5, -1, 2**31, 2**40),
    *(b"\xff", Decimal("1.5"), datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
    *([], [1, "x"], {"k": 1}, {"k": None, "l": [True]}),
)
#: What arguments of bindings may be as well.
_PLAIN_VALUES: Final = _VALUES[:14]
_MATCHES: Final = (None, "all", "any", "all-with-x", "any-with-x")


def binding_arguments(draft: _Draft) -> dict[str, Any]:
    """Return arguments of a binding to a headers exchange."""
    arguments: dict[str, Any] = {}
    match = draft.pick(_MATCHES)
    if match is not None:
        arguments["x-match"] = match
    for _ in range(draft.pick((1, 2, 0))):
        arguments[draft.pick(("h", "i", "x-h"))] = draft.pick(_PLAIN_VALUES)
    if draft.once_in(16):
        arguments["x-match"] = draft.pick(("nonsense", 7))
    return arguments


def _bind(draft: _Draft) -> Step:
    exchange = draft.exchange()
    kind = draft.exchanges.get(exchange, "topic")
    destination = draft.exchange() if draft.once_in(4) else draft.queue()
    step = Bind(
        draft.channel(),
        destination,
        exchange,
        draft.pick(_PATTERNS.get(kind, ("", "a"))),
        binding_arguments(draft) if kind == "headers" or draft.once_in(10) else {},
    )
    draft.bindings.append(step)
    return step


def _unbind(draft: _Draft) -> Step:
    if not draft.bindings or draft.once_in(5):
        draft.bindings.append(Bind("a0", draft.queue(), draft.exchange(), "a"))
    there = draft.pick(draft.bindings[:24])
    return Bind(
        draft.channel(), there.destination, there.exchange, there.key, there.arguments, undo=True
    )


# -- messages --------------------------------------------------------------------------------

_PROPERTIES: Final[tuple[dict[str, Any], ...]] = (
    {"correlation_id": "corr", "reply_to": "q0", "message_id": "id"},
    {"content_type": "text/plain", "content_encoding": "utf-8", "type": "kind"},
    {"delivery_mode": 1, "timestamp": 1_600_000_000, "app_id": "app"},
    {"content_type": "", "reply_to": ""},
)
_MESSAGE_PRIORITIES: Final = (None, None, 1, 2, 0, 5, 200, 255)
_EXPIRATIONS: Final = (str(LONG_MS), "", "-1", "1.5", "soon")


def _message(draft: _Draft) -> Message:
    to_queue = not draft.exchanges or draft.once_in(2)
    properties: dict[str, Any] = {}
    if draft.once_in(12):
        properties = dict(draft.pick(_PROPERTIES))
    priority = draft.pick(_MESSAGE_PRIORITIES)
    if priority is not None:
        properties["priority"] = priority
    if draft.once_in(24):
        properties["expiration"] = draft.pick(_EXPIRATIONS)
    elif draft.ttl is not None and draft.once_in(3):
        properties["expiration"] = str(draft.ttl)
    exchange = "" if to_queue else draft.exchange()
    with_headers = draft.exchanges.get(exchange) == "headers" or draft.once_in(8)
    headers = {
        draft.pick(("h", "i", "x-h")): draft.pick(_VALUES)
        for _ in range(draft.pick((1, 2)) if with_headers else 0)
    }
    message = Message(
        exchange,
        draft.queue() if to_queue else _key(draft, exchange),
        properties,
        headers,
        mandatory=draft.once_in(4),
        size=draft.pick((0, 0, 0, 0, 5, 10)),
    )
    draft.published(message)
    return message


def _key(draft: _Draft, exchange: str) -> str:
    """Return a key, often one that some binding is for."""
    bound = [bind.key for bind in draft.bindings if bind.exchange == exchange]
    return draft.pick(_KEYS if not bound or draft.once_in(3) else bound[:24])


def _publish(draft: _Draft) -> Step:
    return Publish(draft.channel(), _message(draft))


def _publish_batch(draft: _Draft) -> Step:
    messages = tuple(_message(draft) for _ in range(draft.pick((2, 3, 4, 1))))
    return PublishBatch(draft.channel(), messages)


def _get(draft: _Draft) -> Step:
    likely = draft.ready[:24]
    queue = draft.queue() if not likely or draft.once_in(8) else draft.pick(likely)
    step = Get(draft.channel(), queue, no_ack=draft.once_in(5))
    if queue in draft.ready:
        draft.ready.remove(queue)
        if not step.no_ack:
            draft.held.append(step.channel)
    return step


def _consume(draft: _Draft) -> Step:
    step = Consume(
        draft.channel(),
        draft.queue(),
        draft.pick(_CONSUMERS),
        no_ack=draft.once_in(5),
        exclusive=draft.once_in(12),
        priority=draft.pick((None, None, None, 1, -1, 5)),
    )
    draft.consumers.append(step)
    if not step.no_ack:
        draft.held += [step.channel for queue in draft.ready if queue == step.queue]
    draft.ready = [queue for queue in draft.ready if queue != step.queue]
    return step


def _settle(draft: _Draft) -> Step:
    if not draft.held and not draft.once_in(12):
        return _get(draft) if draft.ready else _publish(draft)
    channel = draft.holder()
    if channel in draft.held:
        draft.held.remove(channel)
    return Settle(
        channel,
        draft.pick(("ack", "nack", "reject", "nack")),
        UNKNOWN if draft.once_in(40) else draft.pick(range(4)),
        multiple=draft.once_in(3),
        requeue=draft.once_in(2),
    )


def _cancel(draft: _Draft) -> Step:
    return Cancel(draft.pick([one.consumer for one in draft.consumers][:24] or _CONSUMERS))


def _qos(draft: _Draft) -> Step:
    return Qos(draft.channel(), draft.pick((1, 2, 0, 3)), draft.once_in(4))


def _tx(draft: _Draft) -> Step:
    if draft.tx is None:
        return Tx(draft.channel(), draft.pick(("select", "commit", "rollback")))
    return Tx(draft.tx, draft.pick(("commit", "commit", "commit", "rollback", "select")))


_Kind = Callable[[_Draft], Step]


def _kinds(*weights: tuple[int, _Kind]) -> tuple[_Kind, ...]:
    return tuple(kind for weight, kind in weights for _ in range(weight))


_COMMON: Final = (
    (12, _publish),
    (4, _publish_batch),
    (10, _get),
    (12, _settle),
    (2, _declare_queue),
    (1, _declare_exchange),
    (2, _bind),
    (2, _unbind),
    (1, lambda draft: Recover(draft.holder())),
    (1, lambda draft: PurgeQueue(draft.channel(), draft.queue())),
    (1, lambda draft: CloseChannel(draft.holder())),
    (1, lambda draft: DeleteQueue("a0", draft.queue(), draft.once_in(3), draft.once_in(3))),
    (1, lambda draft: DeleteExchange("a0", draft.exchange(), draft.once_in(3))),
)
_CONSUMING: Final = ((5, _consume), (1, _cancel), (2, _qos))
_TX: Final = ((6, _tx),)
#: By whether there may be consumers, and a transaction.
_KINDS: Final = {
    (False, False): _kinds(*_COMMON),
    (True, False): _kinds(*_COMMON, *_CONSUMING),
    (False, True): _kinds(*_COMMON, *_TX),
    (True, True): _kinds(*_COMMON, *_CONSUMING, *_TX),
}


@st.composite
def _step(draw: st.DrawFn, draft: _Draft, kinds: Sequence[_Kind]) -> Step:
    """Return one step; a strategy of its own, for minimizing to take it out as a whole."""
    draft.draw = draw
    return draft.pick(kinds)(draft)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Return programs of 2 to some 30 steps."""
    draft = _Draft(draw, None, None)
    draft.ttl = draft.pick((*[None] * 40, 0, 0, SHORT_MS))
    draft.tx = draft.pick((None, None, None, None, None, "a1"))
    steps = [_declare_exchange(draft, name) for name in _ALL_EXCHANGES[: draft.pick((1, 2, 0, 3))]]
    steps += [_declare_queue(draft, name) for name in _ALL_QUEUES[: draft.pick((1, 2, 3))]]
    if draft.exchanges:
        steps += [_bind(draft) for _ in range(draft.pick((1, 2, 3, 4, 0)))]
    if draft.tx is not None:
        steps.append(Tx(draft.tx, "select"))
    # RabbitMQ gives a message that is out of time at once to a consumer that waits for it.
    kinds = _KINDS[draft.ttl != 0, draft.tx is not None]
    for _ in range(_MOST_STEPS):
        if draw(_INDEX[20]) == 0:
            break
        steps.append(draw(_step(draft, kinds)))
    if draw(_INDEX[11]) == 11:
        steps.insert(
            draw(_INDEX[min(len(steps), 40)]), CloseConnection(draft.pick("ab"), draft.once_in(2))
        )
    return tuple(steps)
