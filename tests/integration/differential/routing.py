"""Routing alone, compared: random topologies, and many random messages through each of them.

One broker's answer to a topology is where each message went: the queues that got it, and whether it
came back. Messages go out as one batch and come in by consumers, so a case costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final

from hypothesis import strategies as st

from kombu_core import Connection
from kombu_core.exceptions import OperationTimeoutError
from kombu_core.message import Envelope
from kombu_core.message import Message as Received
from kombu_core.transport import Publication

_QUEUES: Final = ("q0", "q1", "q2", "q3")
_TYPES: Final = ("topic", "headers", "direct", "fanout")
_WORDS: Final = ("a", "b", "", "*", "#", "ab")
_VALUES: Final[tuple[Any, ...]] = (
    *("x", "1", "", 1, 0, -1, 1.0, 0.0, 2**40, True, False, None),
    *(b"x", [1], [], {"k": 1}, {}, datetime(2020, 1, 2, tzinfo=UTC)),
)
#: A binding's arguments are of the types that JSON has, so that stores can keep them.
_STORED_VALUES: Final = _VALUES[:12]
_NAMES: Final = ("h", "i", "x-h")


@dataclass(frozen=True, slots=True)
class Exchange:
    type: str
    #: Position of the alternate exchange.
    alternate: int | None


@dataclass(frozen=True, slots=True)
class Binding:
    """From one exchange to a queue, or to another exchange by its position."""

    exchange: int
    destination: str | int
    key: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Letter:
    exchange: int
    key: str
    headers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Topology:
    """Exchanges, their bindings, bindings that are taken away again, and what is published.

    That is each of the keys, with each of the tables of headers, to each of the exchanges.
    """

    exchanges: tuple[Exchange, ...]
    bindings: tuple[Binding, ...]
    unbound: tuple[int, ...]
    keys: tuple[str, ...]
    headers: tuple[Mapping[str, Any], ...]

    @property
    def letters(self) -> list[Letter]:
        """What is published, in order."""
        return [
            Letter(*letter)
            for letter in product(range(len(self.exchanges)), self.keys, self.headers)
        ]


_key = st.lists(st.sampled_from(_WORDS), max_size=3).map(".".join)
_headers = st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(_VALUES), max_size=3)


@st.composite
def _arguments(draw: st.DrawFn) -> dict[str, Any]:
    arguments: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(_STORED_VALUES), max_size=2)
    )
    match = draw(st.sampled_from((None, "all", "any", "all-with-x", "any-with-x")))
    return arguments if match is None else {"x-match": match, **arguments}


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Return topologies of up to four exchanges."""
    count = draw(st.integers(1, 4))
    place = st.integers(0, count - 1)
    exchanges = st.builds(Exchange, st.sampled_from(_TYPES), st.one_of(st.none(), st.none(), place))
    destinations = st.one_of(st.sampled_from(_QUEUES), st.sampled_from(_QUEUES), place)
    no_arguments: st.SearchStrategy[dict[str, Any]] = st.just({})
    bindings = st.builds(Binding, place, destinations, _key, st.one_of(no_arguments, _arguments()))
    bound = draw(st.lists(bindings, min_size=1, max_size=14))
    return Topology(
        tuple(draw(st.lists(exchanges, min_size=count, max_size=count))),
        tuple(bound),
        tuple(draw(st.lists(st.integers(0, len(bound) - 1), max_size=2, unique=True))),
        tuple(draw(st.lists(_key, min_size=1, max_size=12, unique=True))),
        tuple(draw(st.lists(_headers, min_size=1, max_size=4))),
    )


class RoutingSide:
    """One broker; its queues and their consumers stay, exchanges come and go."""

    def __init__(self, kind: str, url: str, options: Mapping[str, Any] | None, token: str) -> None:
        self.kind = kind
        self._token = token
        self._connection = Connection(url, transport_options=dict(options or {}))
        self._channel = self._connection.channel()
        self._channel.set_return_callback(self._returned)
        self._arrived: dict[str, list[str]] = {}
        for label in _QUEUES:
            self._channel.queue_declare(self._name(label))
            self._channel.basic_consume(self._name(label), self._taker(label), no_ack=True)

    def _name(self, label: str) -> str:
        return f"{label}.{self._token}"

    def _taker(self, label: str) -> Any:
        def take(message: Received) -> None:
            self._arrived[label].append(message.body.decode())

        return take

    def _returned(self, envelope: Envelope, code: int, text: str) -> None:
        self._arrived["returned"].append(envelope.body.decode())

    def route(self, topology: Topology, token: str) -> dict[str, list[str]]:
        """Return which letters came to each queue, in order, and which came back."""
        channel = self._channel
        names = [f"e{place}.{token}" for place in range(len(topology.exchanges))]
        self._arrived = {label: [] for label in (*_QUEUES, "returned")}
        for name, exchange in zip(names, topology.exchanges, strict=True):
            alternate = exchange.alternate
            arguments = {} if alternate is None else {"alternate-exchange": names[alternate]}
            channel.exchange_declare(name, exchange.type, arguments=arguments)
        for binding in topology.bindings:
            self._bind("bind", names, binding)
        for place in topology.unbound:
            self._bind("unbind", names, topology.bindings[place])
        publications = [
            Publication(
                Envelope(
                    str(number).encode(), {}, letter.headers, names[letter.exchange], letter.key
                ),
                mandatory=True,
            )
            for number, letter in enumerate(topology.letters)
        ]
        channel.basic_publish_batch(publications)
        for name in names:  # Answered behind the last delivery.
            channel.exchange_delete(name)
        try:
            while True:
                self._connection.drain_events(timeout=0)
        except OperationTimeoutError:
            return self._arrived

    def _bind(self, verb: str, names: list[str], binding: Binding) -> None:
        destination = binding.destination
        source, arguments = names[binding.exchange], dict(binding.arguments)
        if isinstance(destination, int):
            method = getattr(self._channel, f"exchange_{verb}")
            method(names[destination], source, binding.key, arguments)
        else:
            method = getattr(self._channel, f"queue_{verb}")
            method(self._name(destination), source, binding.key, arguments)

    def close(self) -> None:
        """Delete the queues and end the connection."""
        for label in _QUEUES:
            self._channel.queue_delete(self._name(label))
        self._connection.release()
