"""What a queue's arguments ask for, checked once at its declaration.

An argument that nobody here knows is refused, and one that the transport cannot honour as well:
nothing is ignored silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from kombu_core.capabilities import Capabilities
from kombu_core.exceptions import PreconditionFailedError, UnsupportedError
from kombu_core.virtual.store import Limit

#: Priorities above this are treated as this, whatever a queue allows (RabbitMQ's maximum).
MAX_PRIORITY: Final = 255


class QueuePolicy(NamedTuple):
    """The arguments of a queue, in the units of the store (seconds)."""

    max_priority: int = 0
    message_ttl: float | None = None
    expires: float | None = None
    limit: Limit | None = None
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    #: A rejected publish is dead-lettered too (overflow `reject-publish-dlx`).
    dead_letters_rejected: bool = False
    single_active_consumer: bool = False
    #: How often a message may be returned before it is dead.
    delivery_limit: int | None = None
    #: Messages carry `x-delivery-count` from their second delivery on, as in quorum queues.
    counts_deliveries: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether a put needs to know nothing of it."""
        return not self.max_priority and self.message_ttl is None and self.limit is None


def _whole(low: int, high: int = 2**63 - 1) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"a whole number is wanted, not {type(value).__name__}"
        return None if low <= value <= high else f"{value} is not within {low} and {high}"

    return check


def _text(*allowed: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"text is wanted, not {type(value).__name__}"
        if allowed and value not in allowed:
            return f"{value!r} is none of {', '.join(allowed)}"
        return None

    return check


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"a bool is wanted, not {type(value).__name__}"


#: Argument: the capability that it needs, and what tells a bad value from a good one.
_ARGUMENTS: Final[Mapping[str, tuple[str | None, Callable[[Any], str | None]]]] = {
    "x-expires": ("queue_expires", _whole(1, 2**32 - 1)),
    "x-message-ttl": ("message_ttl", _whole(0, 2**32 - 1)),
    "x-max-length": ("max_length", _whole(0)),
    "x-max-length-bytes": ("max_length_bytes", _whole(0)),
    "x-overflow": ("max_length", _text("drop-head", "reject-publish", "reject-publish-dlx")),
    "x-max-priority": ("priorities", _whole(0, MAX_PRIORITY)),
    "x-dead-letter-exchange": ("dead_letters", _text()),
    "x-dead-letter-routing-key": ("dead_letters", _text()),
    "x-single-active-consumer": ("single_active_consumer", _flag),
    "x-delivery-limit": ("delivery_limit", _whole(0)),
    "x-queue-type": (None, _text("classic", "quorum")),
    # How RabbitMQ keeps a queue in memory; without an effect that an application can see.
    "x-queue-mode": (None, _text("default", "lazy")),
}


def check_arguments(queue: str, arguments: Mapping[str, Any], capabilities: Capabilities) -> None:
    """Refuse arguments of a declaration that are unknown, bad, or beyond the transport.

    Raises:
        UnsupportedError: The argument is unknown, or the transport does not have the feature.
        PreconditionFailedError: Its value makes no sense (406).
    """
    for name, value in sorted(arguments.items()):
        if name not in _ARGUMENTS:
            if name.startswith("x-"):
                raise UnsupportedError(f"queue argument {name!r}", capabilities.name)
            continue
        feature, problem_of = _ARGUMENTS[name]
        if feature is not None:
            capabilities.require(feature, f"queue {queue!r} was declared with {name}")
        problem = problem_of(value)
        if problem is not None:
            if name == "x-queue-type" and value == "stream":
                raise UnsupportedError(f"queue type {value!r}", capabilities.name)
            raise PreconditionFailedError(
                f"PRECONDITION_FAILED - invalid arg '{name}' for queue '{queue}': {problem}"
            )
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise PreconditionFailedError(
            f"PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue '{queue}': "
            "routing_key_but_no_dlx_defined"
        )


def consumer_priority(arguments: Mapping[str, Any], capabilities: Capabilities) -> int:
    """Return the priority that a consumer asks for by its arguments, 0 by default.

    Raises:
        UnsupportedError: An argument is unknown, or the transport has no consumer priorities.
        PreconditionFailedError: The priority is no whole number (406).
    """
    for name in arguments:
        if name.startswith("x-") and name not in ("x-priority", "x-cancel-on-ha-failover"):
            raise UnsupportedError(f"consumer argument {name!r}", capabilities.name)
    if "x-priority" not in arguments:
        return 0
    capabilities.require("consumer_priorities", "a consumer has x-priority")
    priority = arguments["x-priority"]
    problem = _whole(-(2**31), 2**31 - 1)(priority)
    if problem is not None:
        raise PreconditionFailedError(
            f"PRECONDITION_FAILED - invalid arg 'x-priority' of a consumer: {problem}"
        )
    return int(priority)


def policy_of(arguments: Mapping[str, Any]) -> QueuePolicy:
    """Return the policy in the (checked) arguments of a queue."""
    if not arguments:
        return _PLAIN
    length, size = arguments.get("x-max-length"), arguments.get("x-max-length-bytes")
    overflow = arguments.get("x-overflow", "drop-head")
    exchange = arguments.get("x-dead-letter-exchange")
    limit = None
    if length is not None or size is not None:
        limit = Limit(
            max_length=length,
            max_bytes=size,
            overflow="drop-head" if overflow == "drop-head" else "reject",
            keep_dropped=exchange is not None,
        )
    return QueuePolicy(
        max_priority=arguments.get("x-max-priority", 0),
        message_ttl=_seconds(arguments.get("x-message-ttl")),
        expires=_seconds(arguments.get("x-expires")),
        limit=limit,
        dead_letter_exchange=exchange,
        dead_letter_routing_key=arguments.get("x-dead-letter-routing-key"),
        dead_letters_rejected=overflow == "reject-publish-dlx",
        single_active_consumer=arguments.get("x-single-active-consumer", False),
        delivery_limit=arguments.get("x-delivery-limit"),
        counts_deliveries=arguments.get("x-queue-type") == "quorum",
    )


_PLAIN: Final = QueuePolicy()


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
