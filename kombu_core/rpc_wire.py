"""What remote procedure calls look like on the wire, for both sides.

A call is a message to the server's queue with the procedure's name in the property `type` and
`{"args": [...], "kwargs": {...}}` as its body. The answer goes to `reply_to`, with the call's
`correlation_id`, as `{"result": ...}` or `{"error": {"type": ..., "text": ...}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kombu_core.entity import Queue
from kombu_core.exceptions import DecodeError, KombuError


class RPCError(KombuError):
    """The procedure failed on the server: `type` names the exception there, `text` is what it says.

    Nothing of the server's exception but these two travels.
    """

    def __init__(self, type: str, text: str) -> None:
        self.type = type
        self.text = text
        super().__init__(f"{type}: {text}")


def to_queue(queue: Queue | str) -> Queue:
    """Return the queue that a name stands for; both sides declare it alike."""
    return Queue(queue) if isinstance(queue, str) else queue


def write_call(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the body of a call."""
    return {"args": list(args), "kwargs": dict(kwargs or {})}


def read_call(body: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and keyword arguments. Raises DecodeError."""
    match body:
        case {"args": list(args), "kwargs": dict(kwargs)}:
            return args, kwargs
    raise DecodeError("The body is no call: it needs the list 'args' and the table 'kwargs'")


def write_failure(error: Exception) -> dict[str, Any]:
    """Return the body of an answer that says what went wrong."""
    return {"error": {"type": type(error).__name__, "text": str(error)}}


def read_answer(body: Any) -> Any:
    """Return the result that an answer brings.

    Raises:
        RPCError: It brings an error.
        DecodeError: It is no answer.
    """
    match body:
        case {"error": {"type": str(type), "text": str(text)}}:
            raise RPCError(type, text)
        case {"result": result}:
            return result
    raise DecodeError("The reply has neither a result nor an error")
