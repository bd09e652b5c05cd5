"""The programs in the documentation run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS: Final = {
    f"{page.name}:{number}": text
    for page in PAGES
    for number, text in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL), 1
    )
}
#: What a page says no more than once.
IMPORTS: Final = "from kombu_core import *\n"


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 3


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_documentation_runs(name: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    text = PROGRAMS[name]
    text = text if "import" in text else IMPORTS + text
    program.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
