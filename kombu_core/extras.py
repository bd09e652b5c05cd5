"""Packages that are installed only by those who want them: imported at the first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kombu_core.exceptions import UnknownCodecError


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Return a module of the extra `kombu-core[extra]`.

    Raises:
        UnknownCodecError: It is not installed, or cannot be imported; the text says what to do.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        raise UnknownCodecError(
            f"{purpose} needs the package that has the module {module!r} ({exc}). "
            f"Install it with: pip install 'kombu-core[{extra}]'"
        ) from None
