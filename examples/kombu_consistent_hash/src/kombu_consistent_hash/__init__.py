"""The exchange type `x-consistent-hash`: each key belongs to one place on a ring of hashes."""

from __future__ import annotations

import hashlib
from bisect import bisect, insort
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from kombu_core.exceptions import PreconditionFailedError
from kombu_core.hookspecs import hookimpl
from kombu_core.virtual.routing import Binding, BindingTable, Destination

KOMBU_CONTRACT: Final = 1
#: Points on the ring for each unit of weight: the more, the more even.
POINTS_PER_WEIGHT: Final = 100


class ConsistentHashTable:
    """The ring of one exchange."""

    uses_headers: ClassVar[bool] = True

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._header = arguments.get("hash-header")
        self._ring: list[tuple[int, str, Destination]] = []

    def validate(self, binding: Binding) -> None:
        """Refuse a weight that is no positive number (406, as RabbitMQ)."""
        key = binding.routing_key
        if not (key.isascii() and key.isdecimal() and int(key) > 0):
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - the weight of a binding is a positive number, not {key!r}"
            )

    def add(self, binding: Binding) -> None:
        """Put the points of a binding on the ring."""
        self.discard(binding)
        for number in range(int(binding.routing_key) * POINTS_PER_WEIGHT):
            point = _hash(f"{binding.destination.kind}:{binding.destination.name}:{number}")
            insort(self._ring, (point, binding.id, binding.destination))

    def discard(self, binding: Binding) -> None:
        """Take its points away."""
        self._ring = [point for point in self._ring if point[1] != binding.id]

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[Destination]:
        """Return the destination that owns the key: the next one on the ring."""
        if not self._ring:
            return []
        key = routing_key if self._header is None else str(headers.get(self._header, ""))
        at = bisect(self._ring, (_hash(key), "", Destination("queue", "")))
        return [self._ring[at % len(self._ring)][2]]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@hookimpl
def kombu_exchange_types() -> Mapping[str, type[BindingTable]]:
    """Add the type to all virtual transports."""
    return {"x-consistent-hash": ConsistentHashTable}
