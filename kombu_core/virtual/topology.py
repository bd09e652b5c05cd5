"""What a virtual broker knows of exchanges and queues, its rules and its document form. No I/O.

Documents are UTF-8 JSON under these keys (names percent-encoded, so that `/` separates):

    exchange/E                     an exchange, with a log of its last bindings
    binding/E/KIND:DESTINATION/ID  one binding of exchange E
    queue/Q                        a queue
    consumers/Q                    who consumes from queue Q
    session/S/queue/Q              session S owns the exclusive queue Q
    session/S/consumers/Q          session S consumes from queue Q
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from kombu_core.exceptions import (
    AccessRefusedError,
    PreconditionFailedError,
    ResourceLockedError,
)
from kombu_core.virtual.routing import Binding, Destination

#: How many binding changes an exchange's document remembers, for readers that lag behind.
LOG_LENGTH: Final = 64

#: The exchanges that every broker has (AMQP 0-9-1, section 3.1.3), by name.
PREDECLARED: Final[Mapping[str, str]] = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """An exchange as it was declared, and how often its bindings changed."""

    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Tells this exchange from a deleted one of the same name.
    born: str = ""
    #: Exchanges that have bindings to this one.
    sources: tuple[str, ...] = ()
    #: Number of binding changes so far.
    revision: int = 0
    #: The last changes, oldest first: ("+" or "-", the binding's document).
    log: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def alternate(self) -> str | None:
        """Name of the alternate exchange."""
        return self.arguments.get("alternate-exchange")

    def changed(self, sign: Literal["+", "-"], *bindings: Binding) -> ExchangeRecord:
        """Return the record after its bindings changed."""
        entries = tuple((sign, binding_to_json(binding)) for binding in bindings)
        log = (self.log + entries)[-LOG_LENGTH:]
        return replace(self, revision=self.revision + len(entries), log=log)


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue as it was declared. `owner` is the session of an exclusive one."""

    name: str
    durable: bool = False
    auto_delete: bool = False
    owner: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Exchanges that have bindings to this queue.
    sources: tuple[str, ...] = ()

    @property
    def exclusive(self) -> bool:
        """Whether only its owner may use it."""
        return bool(self.owner)


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """One consumer of a queue, in the order in which they came."""

    session: str
    channel: int
    tag: str
    exclusive: bool = False
    priority: int = 0
    #: It cannot take more; kept up to date only where priorities differ.
    is_blocked: bool = False


# -- keys ------------------------------------------------------------------------------------


def _quote(name: str) -> str:
    return quote(name, safe="")


def exchange_key(name: str) -> str:
    """Key of an exchange's document."""
    return f"exchange/{_quote(name)}"


def queue_key(name: str) -> str:
    """Key of a queue's document."""
    return f"queue/{_quote(name)}"


def consumers_key(queue: str) -> str:
    """Key of the list of a queue's consumers."""
    return f"consumers/{_quote(queue)}"


def bindings_prefix(exchange: str, destination: Destination | None = None) -> str:
    """Prefix of the bindings of an exchange, or of those that lead to one destination."""
    prefix = f"binding/{_quote(exchange)}/"
    if destination is None:
        return prefix
    return f"{prefix}{destination.kind}:{_quote(destination.name)}/"


def binding_key(exchange: str, binding: Binding) -> str:
    """Key of a binding's document."""
    return bindings_prefix(exchange, binding.destination) + binding.id


def session_prefix(session: str) -> str:
    """Prefix of the marks that tell what a session owns."""
    return f"session/{_quote(session)}/"


def session_mark(session: str, kind: Literal["queue", "consumers"], queue: str) -> str:
    """Key of the mark that `session` owns a queue, or consumes from it."""
    return f"{session_prefix(session)}{kind}/{_quote(queue)}"


def expiry_session(queue: str) -> str:
    """Name of the session that a queue with `x-expires` owns itself by, while it is used."""
    return f"expires:{queue}"


def mark_of(rest: str) -> tuple[str, str]:
    """Return kind and queue of a session's mark, given without the session's prefix."""
    kind, _, queue = rest.partition("/")
    return kind, unquote(queue)


# -- document form ---------------------------------------------------------------------------


def make_binding(
    destination: Destination, routing_key: str, arguments: Mapping[str, Any] | None
) -> Binding:
    """Return a binding with its id, which is a digest of key and arguments.

    Raises:
        PreconditionFailedError: An argument has a type that cannot be stored.
    """
    plain = dict(arguments or {})
    try:
        text = json.dumps([destination, routing_key, plain], sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise PreconditionFailedError(
            f"PRECONDITION_FAILED - binding arguments cannot be stored: {exc}"
        ) from exc
    digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    return Binding(digest, destination, routing_key, plain)


def binding_to_json(binding: Binding) -> dict[str, Any]:
    """Return the document form of a binding."""
    return {
        "id": binding.id,
        "kind": binding.destination.kind,
        "name": binding.destination.name,
        "key": binding.routing_key,
        "arguments": binding.arguments,
    }


def binding_from_json(value: Mapping[str, Any]) -> Binding:
    """Undo `binding_to_json`."""
    destination = Destination(value["kind"], value["name"])
    return Binding(value["id"], destination, value["key"], value["arguments"])


def dump(record: ExchangeRecord | QueueRecord | Binding | list[ConsumerRecord]) -> bytes:
    """Return the bytes of a document."""
    value: Any
    if isinstance(record, Binding):
        value = binding_to_json(record)
    elif isinstance(record, list):
        value = [asdict(consumer) for consumer in record]
    else:
        value = asdict(record)
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError) as exc:
        raise PreconditionFailedError(
            f"PRECONDITION_FAILED - arguments cannot be stored: {exc}"
        ) from exc


def load_exchange(raw: bytes) -> ExchangeRecord:
    """Read an exchange's document."""
    value = json.loads(raw)
    value["log"] = tuple((sign, binding) for sign, binding in value["log"])
    value["sources"] = tuple(value["sources"])
    return ExchangeRecord(**value)


def load_queue(raw: bytes) -> QueueRecord:
    """Read a queue's document."""
    value = json.loads(raw)
    value["sources"] = tuple(value["sources"])
    return QueueRecord(**value)


def load_binding(raw: bytes) -> Binding:
    """Read a binding's document."""
    return binding_from_json(json.loads(raw))


def load_consumers(raw: bytes) -> list[ConsumerRecord]:
    """Read a list of consumers; an absent document is an empty list."""
    return [ConsumerRecord(**value) for value in json.loads(raw)] if raw else []


# -- rules -----------------------------------------------------------------------------------


def check_name_is_free(kind: Literal["exchange", "queue"], name: str) -> None:
    """Refuse to create what begins with `amq.` (403), as RabbitMQ."""
    if name.startswith("amq."):
        raise AccessRefusedError(
            f"ACCESS_REFUSED - {kind} name '{name}' contains reserved prefix 'amq.*'"
        )


def check_access(queue: QueueRecord, session: str, *, declares: str | None = None) -> None:
    """Refuse what belongs to another connection (405).

    `declares` is the owner that a declaration asks for; then it has to be the same (RabbitMQ).
    """
    if queue.owner == (session if declares is None else declares):
        return
    if declares is not None or queue.owner:
        raise ResourceLockedError(
            f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue.name}'"
        )


def check_type(queue: QueueRecord) -> None:
    """Refuse a quorum queue that is not durable, or goes with somebody (406, as RabbitMQ)."""
    if queue.arguments.get("x-queue-type") != "quorum":
        return
    for is_wrong, name in (
        (not queue.durable, "non-durable"),
        (queue.auto_delete, "auto-delete"),
        (queue.exclusive, "exclusive-owner"),
    ):
        if is_wrong:
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - invalid property '{name}' for queue '{queue.name}'"
            )


def check_not_default(exchange: str) -> None:
    """Refuse to declare, delete or bind the default exchange (403)."""
    if not exchange:
        raise AccessRefusedError("ACCESS_REFUSED - operation not permitted on the default exchange")


def check_equivalent(
    there: ExchangeRecord | QueueRecord, wanted: ExchangeRecord | QueueRecord
) -> None:
    """Refuse a declaration that differs from what is there (406), naming the first difference."""
    kind = "exchange" if isinstance(there, ExchangeRecord) else "queue"
    names = ["durable", "auto_delete"]
    if kind == "exchange":
        names = ["type", *names, "internal"]
    for name in names:
        received, current = getattr(wanted, name), getattr(there, name)
        if received != current:
            _raise_inequivalent(kind, there.name, name, received, current)
    for name in sorted({*there.arguments, *wanted.arguments}):
        if not name.startswith("x-") and name != "alternate-exchange":
            continue
        received, current = wanted.arguments.get(name), there.arguments.get(name)
        if received != current:
            _raise_inequivalent(kind, there.name, name, received, current)


def _raise_inequivalent(kind: str, name: str, what: str, received: Any, current: Any) -> None:
    raise PreconditionFailedError(
        f"PRECONDITION_FAILED - inequivalent arg '{what}' for {kind} '{name}': "
        f"received {received!r} but current is {current!r}"
    )
