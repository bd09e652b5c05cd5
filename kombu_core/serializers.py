"""Text, bytes, msgpack and pickle, from values to bytes and back, as kombu 5 writes them."""

from __future__ import annotations

from typing import Any, Final

from kombu_core.exceptions import ContentTooLargeError, EncodeError
from kombu_core.extras import import_extra
from kombu_core.records import members_of

#: Readable by every Python that runs this, and by kombu's.
_PICKLE_PROTOCOL: Final = 4


def encode_text(data: Any) -> str:
    """Return text as it is. Raises EncodeError for anything else."""
    if isinstance(data, str):
        return data
    raise EncodeError(f"The serializer 'text' takes str, not {type(data).__name__}")


def encode_raw(data: Any) -> bytes:
    """Return bytes as they are. Raises EncodeError for anything else."""
    if isinstance(data, bytes):
        return data
    raise EncodeError(f"The serializer 'raw' takes bytes, not {type(data).__name__}")


# -- msgpack ---------------------------------------------------------------------------------


def encode_msgpack(data: Any) -> bytes:
    """Encode as msgpack: bytes stay bytes, times with a zone become its timestamps."""
    packed: bytes = _msgpack().packb(data, use_bin_type=True, datetime=True, default=_replace)
    return packed


def decode_msgpack(body: bytes) -> Any:
    """Decode msgpack.

    Keys of maps have to be text or bytes: numbers as keys can be chosen so that a table of them
    takes minutes to fill.
    """
    msgpack = _msgpack()
    try:
        return msgpack.unpackb(body, raw=False, timestamp=3, strict_map_key=True)
    except msgpack.StackError:
        raise ContentTooLargeError("The msgpack is nested too deeply") from None


def _msgpack() -> Any:
    return import_extra("msgpack", "msgpack", "The serializer 'msgpack'")


def _replace(value: object) -> Any:
    members = members_of(value)
    if members is None:
        raise TypeError(f"{type(value).__name__} has no msgpack form")
    return members


# -- pickle ----------------------------------------------------------------------------------


def encode_pickle(data: Any) -> bytes:
    """Encode any object that Python can pickle."""
    import pickle

    return pickle.dumps(data, protocol=_PICKLE_PROTOCOL)


def decode_pickle(body: bytes) -> Any:
    """Decode a pickle, and so do whatever its author wants to be done on this machine."""
    import pickle

    return pickle.loads(body)
