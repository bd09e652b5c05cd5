"""The tests of a store on a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from kombu_core.testing.store import OpenStore, StoreContract
from kombu_files.store import FilesStore


class TestFilesStore(StoreContract):
    """A directory for each test."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return lambda: FilesStore(tmp_path / "queues")
