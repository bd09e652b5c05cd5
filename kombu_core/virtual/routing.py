"""Which destinations a message reaches: pure matching, without I/O, threads or time.

Each exchange type is a `BindingTable`: bindings go in and out one by one, and a match costs what
matches, not what is bound. A plugin adds a type by the hook `kombu_exchange_types`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol

from kombu_core.exceptions import PreconditionFailedError


class Destination(NamedTuple):
    """Where a binding leads."""

    kind: Literal["queue", "exchange"]
    name: str


class Binding(NamedTuple):
    """One binding of an exchange. `id` is unique within its exchange and stable."""

    id: str
    destination: Destination
    routing_key: str
    arguments: Mapping[str, Any]


class BindingTable(Protocol):
    """The bindings of one exchange, indexed for its type."""

    #: Whether `match` looks at headers; if not, its answers are cached by routing key.
    uses_headers: ClassVar[bool]

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Make an empty table for an exchange that was declared with `arguments`."""
        ...

    def validate(self, binding: Binding) -> None:
        """Raise PreconditionFailedError if the binding makes no sense for this type."""
        ...

    def add(self, binding: Binding) -> None:
        """Insert a binding; a second one of the same id replaces the first."""
        ...

    def discard(self, binding: Binding) -> None:
        """Remove a binding if it is there."""
        ...

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Destination]:
        """Return the destinations of the bindings that match; repetitions are allowed."""
        ...


class DirectTable:
    """Direct exchange: the routing keys are equal."""

    uses_headers: ClassVar[bool] = False

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._by_key: dict[str, dict[str, Destination]] = {}

    def validate(self, binding: Binding) -> None:
        """Anything goes."""

    def add(self, binding: Binding) -> None:
        self._by_key.setdefault(binding.routing_key, {})[binding.id] = binding.destination

    def discard(self, binding: Binding) -> None:
        bound = self._by_key.get(binding.routing_key)
        if bound and bound.pop(binding.id, None) and not bound:
            del self._by_key[binding.routing_key]

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Destination]:
        return self._by_key.get(routing_key, {}).values()


class FanoutTable:
    """Fanout exchange: every binding matches."""

    uses_headers: ClassVar[bool] = False

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._bound: dict[str, Destination] = {}

    def validate(self, binding: Binding) -> None:
        """Anything goes."""

    def add(self, binding: Binding) -> None:
        self._bound[binding.id] = binding.destination

    def discard(self, binding: Binding) -> None:
        self._bound.pop(binding.id, None)

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Destination]:
        return self._bound.values()


class _Node:
    """A place in the trie: all patterns that begin with the same words."""

    __slots__ = ("bound", "children")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.bound: dict[str, Destination] = {}


class TopicTable:
    """Topic exchange: words between dots, `*` is exactly one word, `#` is zero or more.

    A trie of patterns that is walked with the set of nodes that are alive after each word, so
    that patterns of many `#` cost no more than others.
    """

    uses_headers: ClassVar[bool] = False

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._root = _Node()

    def validate(self, binding: Binding) -> None:
        """Anything goes."""

    def add(self, binding: Binding) -> None:
        node = self._root
        for word in _words(binding.routing_key):
            node = node.children.setdefault(word, _Node())
        node.bound[binding.id] = binding.destination

    def discard(self, binding: Binding) -> None:
        path = [self._root]
        words = _words(binding.routing_key)
        for word in words:
            child = path[-1].children.get(word)
            if child is None:
                return
            path.append(child)
        path[-1].bound.pop(binding.id, None)
        for parent, word in zip(reversed(path[:-1]), reversed(words), strict=True):
            child = parent.children[word]
            if child.bound or child.children:
                return
            del parent.children[word]

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Destination]:
        # Keyed by identity: each node once, in the order of discovery.
        alive: dict[int, tuple[_Node, bool]] = {}
        _enter(alive, self._root, loops=False)
        for word in _words(routing_key):
            following: dict[int, tuple[_Node, bool]] = {}
            for node, loops in alive.values():
                if loops:
                    _enter(following, node, loops=True)
                for step in (word, "*"):
                    child = node.children.get(step)
                    # A word of a message that is "*" or "#" is no wildcard, but finds that node.
                    if child is not None:
                        _enter(following, child, loops=step == "#")
            alive = following
        return [place for node, _ in alive.values() for place in node.bound.values()]


def _enter(alive: dict[int, tuple[_Node, bool]], node: _Node, *, loops: bool) -> None:
    """Make a node alive, and with it the `#` below it, which may stand for no word at all."""
    while id(node) not in alive:
        alive[id(node)] = (node, loops)
        below = node.children.get("#")
        if below is None:
            return
        node, loops = below, True


def _words(key: str) -> list[str]:
    """Split as RabbitMQ does: the empty key has no words, `a.` has two."""
    return key.split(".") if key else []


_NO_X: Final = frozenset({"all", "any"})
_ALL: Final = frozenset({"all", "all-with-x"})
_X_MATCH: Final = frozenset({"all", "any", "all-with-x", "any-with-x"})


class HeadersTable:
    """Headers exchange: the binding's arguments are compared with the message's headers.

    `x-match` is `all` (default), `any`, or one of these `-with-x`, which also compares arguments
    whose names begin with `x-` (RabbitMQ 3.10). An argument of None asks only for presence.
    """

    uses_headers: ClassVar[bool] = True

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._bound: dict[str, tuple[Destination, bool, list[tuple[str, Any]]]] = {}

    def validate(self, binding: Binding) -> None:
        mode = binding.arguments.get("x-match", "all")
        if not isinstance(mode, str):
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - Invalid x-match field type {type(mode).__name__} "
                "(expected longstr)"
            )
        if mode not in _X_MATCH:
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - Invalid x-match field value {mode!r}; "
                "expected all, any, all-with-x, or any-with-x"
            )

    def add(self, binding: Binding) -> None:
        mode = binding.arguments.get("x-match", "all")
        wanted = [
            (name, value)
            for name, value in binding.arguments.items()
            if name != "x-match" and not (mode in _NO_X and name.startswith("x-"))
        ]
        self._bound[binding.id] = (binding.destination, mode in _ALL, wanted)

    def discard(self, binding: Binding) -> None:
        self._bound.pop(binding.id, None)

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Destination]:
        for destination, needs_all, wanted in self._bound.values():
            hits = (name in headers and _same(value, headers[name]) for name, value in wanted)
            if all(hits) if needs_all else any(hits):
                yield destination


def _same(wanted: Any, given: Any) -> bool:
    """Compare as RabbitMQ: None is presence, otherwise equal values of one class of types."""
    return wanted is None or (_type_class(wanted) == _type_class(given) and wanted == given)


def _type_class(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float, Decimal)):
        return "number"
    return type(value).__name__


#: The types of AMQP 0-9-1, section 3.1.3.
EXCHANGE_TYPES: Final[Mapping[str, type[BindingTable]]] = {
    "direct": DirectTable,
    "fanout": FanoutTable,
    "topic": TopicTable,
    "headers": HeadersTable,
}
