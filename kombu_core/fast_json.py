"""Reading JSON by msgspec or orjson, if one of them is installed.

They read the same values as the standard library, or fail, and what they fail at is read by the
standard library then: NaN, lone surrogates, a byte order mark, numbers out of their range. One
difference is silent: orjson makes floats of integers beyond 64 bits, so it is not given them.

Neither writes. Both write NaN as `null`, an enumeration's member as its value and a UUID as plain
text, and msgspec sets and dataclasses too, without a way to be told about each: what a program may
send, and as what, would depend on the packages that happen to be installed. To compare what they
wrote with the value costs as much as they save wherever there is a tuple.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

#: An integer that needs more than 64 bits has as many digits, or more.
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")


@cache
def find_reader() -> Callable[[bytes], Any] | None:
    """Return a function that reads UTF-8 JSON, or None if no package has one.

    It raises any exception for what it cannot read although it may be JSON.
    """
    return _by_msgspec() or _by_orjson()


def _by_msgspec() -> Callable[[bytes], Any] | None:
    try:
        msgspec: Any = import_module("msgspec")
    except ImportError:
        return None
    decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
    return decode


def _by_orjson() -> Callable[[bytes], Any] | None:
    try:
        orjson: Any = import_module("orjson")
    except ImportError:
        return None
    loads: Callable[[bytes], Any] = orjson.loads
    find_long = _LONG_NUMBER.search

    def read(body: bytes) -> Any:
        if find_long(body):
            raise ValueError("an integer may be longer than orjson reads them")
        return loads(body)

    return read
