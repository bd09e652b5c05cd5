"""The page that tells what each transport can do is what the transports say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "transports_table.py"


@pytest.mark.skipif(not TOOL.exists(), reason="not in this distribution")
def test_the_page_of_transports_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("table", TOOL)
    assert spec is not None
    assert spec.loader is not None
    table: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    page = (ROOT / "docs" / "transports.md").read_text(encoding="utf-8")
    assert page == table.page(), "run: python tools/transports_table.py > docs/transports.md"
