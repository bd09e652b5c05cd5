"""Many exchanges, queues and bindings as one thing: checked, compared with a broker, and applied.

And explained: which queues a message would reach, and by which bindings, without any broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from kombu_core.entity import Queue
from kombu_core.exceptions import (
    ConfigurationError,
    KombuError,
    NotFoundError,
    PreconditionFailedError,
    ResourceLockedError,
)
from kombu_core.exchange import Exchange, to_exchange
from kombu_core.message import Envelope, Message
from kombu_core.routing_explanation import PREDECLARED, Explanation, Link, Routing
from kombu_core.virtual.routing import EXCHANGE_TYPES, Binding, BindingTable, Destination

if TYPE_CHECKING:
    from typing import Self

    from kombu_core.connection import Connection
    from kombu_core.transport import Arguments, Channel

__all__ = ["Explanation", "Finding", "Step", "Topology", "TopologyConflictError"]

#: What a broker says of one step: it has that; it does not; it has something else of that name;
#: another connection holds it; or it cannot be asked, as about bindings.
State = Literal["exists", "missing", "differs", "locked", "unknown"]

#: What two declarations of one exchange have to agree on.
_EXCHANGE_ATTRIBUTES: Final = ("type", "durable", "auto_delete", "internal", "arguments")


class Step(NamedTuple):
    """One thing that there shall be; `text` tells it in words."""

    kind: Literal["exchange", "queue", "binding"]
    name: str
    text: str

    def __str__(self) -> str:
        return self.text


class Finding(NamedTuple):
    """What a broker has in place of a step."""

    step: Step
    state: State
    #: The broker's own words, where it refused.
    reason: str = ""
    #: It shall not be created, only be there.
    is_passive: bool = False

    @property
    def is_conflict(self) -> bool:
        """Whether applying the topology would fail on it."""
        return self.state in ("differs", "locked") or (self.state == "missing" and self.is_passive)

    def __str__(self) -> str:
        return f"{self.state}: {self.step}{f' ({self.reason})' if self.reason else ''}"


class TopologyConflictError(KombuError):
    """The broker has other things under the same names; `findings` tells which."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("; ".join(str(finding) for finding in findings))


class Topology:
    """Exchanges, queues and their bindings, which belong together.

        topology = Topology(Queue("video", media, "video"), Queue("image", media, "image"))
        for finding in topology.diff(connection):
            print(finding)
        topology.apply(connection)
        print(topology.explain(Envelope(b"", {}, {}, "media", "video")))

    Queues bring their exchanges and bindings along. Building and explaining it does no I/O.

    Args:
        *entities: Exchanges and queues, in any order.
        types: Exchange types by name, for plugins' own.

    Raises:
        ConfigurationError: Two declarations of one name do not agree, or a queue has no name.
    """

    def __init__(
        self,
        *entities: Exchange | Queue,
        types: Mapping[str, type[BindingTable]] = EXCHANGE_TYPES,
    ) -> None:
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, Queue] = {}
        #: All bindings, also those of the queues.
        self.links: list[Link] = []
        self._types = types
        for entity in entities:
            self.add(entity)

    def add(self, entity: Exchange | Queue) -> Self:
        """Add an exchange, or a queue with its exchanges and bindings."""
        if isinstance(entity, Exchange):
            self._add_exchange(entity)
            return self
        if not entity.name:
            raise ConfigurationError("A queue needs a name to be part of a topology")
        known = self.queues.get(entity.name)
        if known is not None and known.declare_arguments != entity.declare_arguments:
            raise ConfigurationError(f"There are two queues {entity.name!r} that are not equal")
        self.queues[entity.name] = entity
        if entity.exchange is not None and entity.exchange.name:
            self.bind(entity, entity.exchange, entity.routing_key, entity.binding_arguments)
        for item in entity.bindings:
            self.bind(entity, item.exchange, item.routing_key, item.arguments)
        return self

    def bind(
        self,
        destination: Exchange | Queue,
        source: Exchange | str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> Self:
        """Let a queue or an exchange receive what another exchange routes to it.

        Args:
            destination: Is added too.
            source: An exchange, which is added too, or the name of one that is there.
            routing_key: What must match, by the type of `source`.
            arguments: Of the binding.

        Raises:
            PreconditionFailedError: The binding makes no sense for that type of exchange.
        """
        if isinstance(source, str):
            found = self.exchanges.get(source)
            if found is None and source not in PREDECLARED:
                raise ConfigurationError(f"There is no exchange {source!r} in the topology")
            source = found or Exchange(source, PREDECLARED[source])
        self._add_exchange(source)
        if isinstance(destination, Exchange):
            self._add_exchange(destination)
            place = Destination("exchange", destination.name)
        else:
            if destination.name not in self.queues:
                self.add(destination)
            place = Destination("queue", destination.name)
        link = Link(source.name, place, routing_key, dict(arguments or {}))
        if source.type in self._types:
            table = self._routing.table(source.type, source.arguments or {})
            table.validate(Binding("", place, routing_key, link.arguments))
        if link not in self.links:
            self.links.append(link)
        return self

    def _add_exchange(self, exchange: Exchange) -> None:
        if not exchange.name:
            raise ConfigurationError("The default exchange can be no part of a topology")
        exchange = to_exchange(exchange)
        known = self.exchanges.get(exchange.name)
        if known is None or known.no_declare:
            self.exchanges[exchange.name] = exchange
        elif not exchange.no_declare:
            for name in _EXCHANGE_ATTRIBUTES:
                if (getattr(known, name) or None) != (getattr(exchange, name) or None):
                    raise ConfigurationError(
                        f"There are two exchanges {exchange.name!r}: their {name} is "
                        f"{getattr(known, name)!r} and {getattr(exchange, name)!r}"
                    )

    # -- a broker --------------------------------------------------------------------------

    def plan(self) -> list[Step]:
        """Return all that there shall be, in the order in which `apply` makes it. No I/O."""
        return [step for step, _ in self._steps()]

    def diff(self, connection: Connection) -> list[Finding]:
        """Compare with what a broker has; a few round trips for each exchange and queue.

        Nothing is created, unless somebody deletes in this moment what was just there. What the
        broker has besides is not told, and bindings are `unknown`: AMQP has no question for them.
        """
        probe = _Probe(connection)
        return [
            Finding(step, "unknown") if entity is None else probe.finding(step, entity)
            for step, entity in self._steps()
        ]

    def apply(self, connection: Connection) -> list[Finding]:
        """Create what is missing and bind everything; idempotent.

        Returns:
            What was created, and all bindings.

        Raises:
            TopologyConflictError: Something else has one of the names. Nothing was changed.
        """
        findings = self.diff(connection)
        conflicts = [finding for finding in findings if finding.is_conflict]
        if conflicts:
            raise TopologyConflictError(conflicts)
        channel = connection.channel()
        for exchange in self.exchanges.values():
            exchange(channel).declare()
        for queue in self.queues.values():
            queue(channel).declare()
        for source, (kind, name), routing_key, arguments in self.links:
            bind = channel.queue_bind if kind == "queue" else channel.exchange_bind
            bind(name, source, routing_key, arguments)
        channel.close()
        return [finding for finding in findings if finding.state in ("missing", "unknown")]

    def _steps(self) -> Iterator[tuple[Step, Exchange | Queue | None]]:
        for exchange in self.exchanges.values():
            yield Step("exchange", exchange.name, f"{exchange.type} {_words(exchange)}"), exchange
        for queue in self.queues.values():
            yield Step("queue", queue.name, _words(queue)), queue
        for link in self.links:
            yield Step("binding", link.destination.name, f"binding {link}"), None

    # -- explaining ------------------------------------------------------------------------

    @property
    def _routing(self) -> Routing:
        return Routing(self.exchanges, list(self.queues), self.links, self._types)

    def explain(self, message: Envelope | Message) -> Explanation:
        """Tell which queues of this topology a message would reach, and why. No I/O.

        Args:
            message: Its exchange, routing key and headers decide.

        Raises:
            UnsupportedError: An exchange has a type that is not among `types`.
        """
        envelope = message.envelope if isinstance(message, Message) else message
        return self._routing.explain(envelope)

    def route(
        self, exchange: str = "", routing_key: str = "", headers: Mapping[str, Any] | None = None
    ) -> Explanation:
        """`explain` for a message that there is not yet."""
        return self.explain(Envelope(b"", {}, headers or {}, exchange, routing_key))


class _Probe:
    """Asks a broker; each refusal costs a channel."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: Channel | None = None

    def _open(self) -> Channel:
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
        return self._channel

    def finding(self, step: Step, entity: Exchange | Queue) -> Finding:
        """Look for one exchange or queue, and whether it is as declared."""
        is_passive = entity.passive or entity.no_declare or entity.name.startswith("amq.")
        found = partial(Finding, step, is_passive=is_passive)
        declare = self._declaration(entity)
        try:
            declare(passive=True)
            # It is there, so declaring it changes nothing: the broker only compares.
            if not is_passive:
                declare(passive=False)
        except NotFoundError:
            return found("missing")
        except PreconditionFailedError as error:
            return found("differs", error.text)
        except ResourceLockedError as error:
            return found("locked", error.text)
        return found("exists")

    def _declaration(self, entity: Exchange | Queue) -> Callable[..., object]:
        if isinstance(entity, Queue):
            return partial(
                self._open().queue_declare,
                entity.name,
                durable=entity.durable,
                exclusive=entity.exclusive,
                auto_delete=entity.auto_delete,
                arguments=entity.declare_arguments,
            )
        return partial(
            self._open().exchange_declare,
            entity.name,
            entity.type,
            durable=entity.durable,
            auto_delete=entity.auto_delete,
            internal=entity.internal,
            arguments=entity.arguments,
        )


def _words(entity: Exchange | Queue) -> str:
    kind = "queue" if isinstance(entity, Queue) else "exchange"
    flags = [
        flag
        for flag in ("durable", "exclusive", "auto_delete", "internal", "passive")
        if getattr(entity, flag, False)
    ]
    arguments = entity.declare_arguments if isinstance(entity, Queue) else entity.arguments
    details = [*flags, *([str(dict(arguments))] if arguments else [])]
    told = f" ({', '.join(details)})" if details else ""
    return f"{kind} {entity.name!r}{told}"
