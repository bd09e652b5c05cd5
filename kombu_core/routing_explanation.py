"""Why a message reaches a queue: the pure routing of the core, walked by one binding at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kombu_core.exceptions import UnsupportedError
from kombu_core.exchange import Exchange
from kombu_core.message import Envelope
from kombu_core.virtual.routing import Binding, BindingTable, Destination

#: What every broker has, with the type of each; the default exchange is not among them.
PREDECLARED: Final[Mapping[str, str]] = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


class Link(NamedTuple):
    """One binding of a topology."""

    source: str
    destination: Destination
    routing_key: str = ""
    arguments: Mapping[str, Any] = {}

    def __str__(self) -> str:
        arguments = f" {dict(self.arguments)}" if self.arguments else ""
        kind, name = self.destination
        return f"{self.source!r} -> {kind} {name!r} by {self.routing_key!r}{arguments}"


class Hop(NamedTuple):
    """One step of a message: what it came from, where it went, and why."""

    exchange: str
    destination: Destination
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which queues a message reaches, and why; `str()` tells it in lines.

    Attributes:
        paths: All ways that lead to a queue, each from the exchange that it was published to.
        dead_ends: Why there was no way on, where there was none.
    """

    paths: tuple[tuple[Hop, ...], ...]
    dead_ends: tuple[str, ...]

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues, each once, in the order in which they were found."""
        return tuple(dict.fromkeys(path[-1].destination.name for path in self.paths))

    def __bool__(self) -> bool:
        return bool(self.paths)

    def __str__(self) -> str:
        lines = [
            f"queue {path[-1].destination.name!r}: {', then '.join(hop.reason for hop in path)}"
            for path in self.paths
        ]
        return "\n".join([*lines, *self.dead_ends])


class Routing:
    """Walks from exchange to exchange as a broker does, each of them once."""

    def __init__(
        self,
        exchanges: Mapping[str, Exchange],
        queues: Sequence[str],
        links: Sequence[Link],
        types: Mapping[str, type[BindingTable]],
    ) -> None:
        self._exchanges = exchanges
        self._queues = frozenset(queues)
        self._links = links
        self._types = types

    def explain(self, envelope: Envelope) -> Explanation:
        """Return where a message goes."""
        paths: list[tuple[Hop, ...]] = []
        dead_ends: list[str] = []
        waiting: list[tuple[str, tuple[Hop, ...]]] = [(envelope.exchange, ())]
        visited = {envelope.exchange}
        while waiting:
            name, path = waiting.pop(0)
            hops = list(self._hops(name, envelope, dead_ends, is_first=not path))
            for hop in hops:
                kind, destination = hop.destination
                if kind == "queue":
                    paths.append((*path, hop))
                elif destination not in visited:
                    visited.add(destination)
                    waiting.append((destination, (*path, hop)))
        return Explanation(tuple(paths), tuple(dead_ends))

    def _hops(
        self, name: str, envelope: Envelope, dead_ends: list[str], *, is_first: bool
    ) -> Iterator[Hop]:
        key = envelope.routing_key
        if not name:
            if key in self._queues:
                reason = f"the default exchange leads to the queue called {key!r}"
                yield Hop(name, Destination("queue", key), reason)
            else:
                dead_ends.append(f"the default exchange: there is no queue called {key!r}")
            return
        exchange = self._exchanges.get(name)
        if exchange is None and name not in PREDECLARED:
            dead_ends.append(f"there is no exchange {name!r}")
            return
        if is_first and exchange is not None and exchange.internal:
            dead_ends.append(f"exchange {name!r} is internal: nobody may publish to it")
            return
        kind = PREDECLARED[name] if exchange is None else exchange.type
        arguments = (None if exchange is None else exchange.arguments) or {}
        found = False
        for link in self._matching(name, kind, arguments, envelope):
            found = True
            yield Hop(name, link.destination, _reason(name, kind, link))
        if found:
            return
        alternate = arguments.get("alternate-exchange")
        if alternate is None:
            dead_ends.append(f"{kind} exchange {name!r}: no binding matches {key!r}")
        else:
            reason = f"nothing matches in exchange {name!r}, whose alternate is {alternate!r}"
            yield Hop(name, Destination("exchange", alternate), reason)

    def _matching(
        self, name: str, kind: str, arguments: Mapping[str, Any], envelope: Envelope
    ) -> Iterator[Link]:
        links = [link for link in self._links if link.source == name]
        reached = self._match(kind, arguments, links, envelope)
        for link in links:
            # A type may choose among its bindings, so each alone tells too little.
            if link.destination in reached and self._match(kind, arguments, [link], envelope):
                yield link

    def _match(
        self, kind: str, arguments: Mapping[str, Any], links: Sequence[Link], envelope: Envelope
    ) -> set[Destination]:
        table = self.table(kind, arguments)
        for number, link in enumerate(links):
            _, destination, key, its_arguments = link
            table.add(Binding(str(number), destination, key, its_arguments))
        return set(table.match(envelope.routing_key, envelope.headers))

    def table(self, kind: str, arguments: Mapping[str, Any]) -> BindingTable:
        """Return an empty table for a type. Raises UnsupportedError if it is not known."""
        if kind not in self._types:
            raise UnsupportedError(f"exchange type {kind!r}", "topology", "give it in `types`")
        return self._types[kind](arguments)


def _reason(name: str, kind: str, link: Link) -> str:
    to, destination = link.destination
    by = {
        "fanout": "takes everything",
        "headers": f"wants the headers {dict(link.arguments)}",
    }.get(kind, f"by {link.routing_key!r}")
    return f"{kind} exchange {name!r} binds {to} {destination!r} {by}"
