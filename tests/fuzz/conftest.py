"""What every fuzz test holds besides its own: no input makes the process grow."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Final

import pytest

#: Mebibytes that one test may add to the most that the process ever had.
MOST: Final = 256


@pytest.fixture(autouse=True)
def no_memory_blow_up() -> Iterator[None]:
    """Fail if the process grew, for a moment even, by more than `MOST`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) // 1024 < MOST
