"""Secrets by name, one of which seals and all of which open: how keys are replaced while in use."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn, final

from kombu_core.exceptions import ConfigurationError

#: Bytes that a secret has at least, all of them random.
SECRET_BYTES: Final = 32
_LONGEST_NAME: Final = 255


@final
class Key:
    """A secret that shows itself only to who asks, and is not pickled."""

    __slots__ = ("__secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES or hasattr(secret, "encode"):  # text has that
            raise ConfigurationError(
                f"A key is {SECRET_BYTES} random bytes or more, as from KeyRing.generate(); it is "
                "no text and no password"
            )
        self.__secret = secret

    def reveal_bytes(self) -> bytes:
        """Return the secret."""
        return self.__secret

    def __repr__(self) -> str:
        return "Key(**)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A Key is not pickled")


class NamedKey(NamedTuple):
    """A key and what it is called in messages."""

    name: str
    key: Key


class KeyRing:
    """Keys by name; the primary one seals. Thread-safe.

    To replace a key without refusing a message: `add` the new one everywhere; when everybody has
    it, `use` it where messages are sealed; `remove` the old one when all that it sealed is read.

    Args:
        keys: Secrets by name; the first one is the primary. Names are visible in messages.

    Raises:
        ConfigurationError: There is none, or one is too short.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        for name, secret in keys.items():
            self.add(name, secret)
        if not self._keys:
            raise ConfigurationError("A ring without a key opens nothing")
        self._primary = next(iter(self._keys))

    @staticmethod
    def generate() -> bytes:
        """Return a new secret."""
        return secrets.token_bytes(SECRET_BYTES)

    @property
    def names(self) -> tuple[str, ...]:
        """The keys' names, the oldest first."""
        return tuple(self._keys)

    @property
    def primary(self) -> NamedKey:
        """What seals."""
        with self._lock:
            return NamedKey(self._primary, self._keys[self._primary])

    def find(self, name: str) -> Key | None:
        """Return a key by its name, None if there is none."""
        return self._keys.get(name)

    def add(self, name: str, secret: bytes) -> None:
        """Open what is sealed by this key, too.

        Raises:
            ConfigurationError: The secret is too short, or there is another key of that name.
        """
        if not 0 < len(name.encode()) <= _LONGEST_NAME:
            raise ConfigurationError(f"The name of a key has 1 to {_LONGEST_NAME} bytes")
        key = Key(secret)
        with self._lock:
            known = self._keys.get(name)
            if known is not None and known.reveal_bytes() != secret:
                raise ConfigurationError(f"There is another key {name!r}: messages name theirs")
            self._keys[name] = key

    def use(self, name: str) -> None:
        """Seal by this key from now on. Raises ConfigurationError if there is none of the name."""
        with self._lock:
            if name not in self._keys:
                raise ConfigurationError(f"There is no key {name!r}")
            self._primary = name

    def remove(self, name: str) -> None:
        """Open nothing by this key any more. Raises ConfigurationError if it is the primary one."""
        with self._lock:
            if name == self._primary:
                raise ConfigurationError(f"The key {name!r} seals; use another one first")
            self._keys.pop(name, None)

    def __repr__(self) -> str:
        return f"<KeyRing: {', '.join(self._keys)}; {self._primary} seals>"
