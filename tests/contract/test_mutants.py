"""The kit tested: each broken store is caught by the tests that are named for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.contract.mutants import CATCHERS, MUTANTS

MUTANTS_FILE = Path(__file__).with_name("mutants.py")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], bool]:
    """Run what should fail, all in one other process; whether it failed by (mutant, test)."""
    report = tmp_path_factory.mktemp("mutants") / "report.xml"
    nodes = [f"{MUTANTS_FILE}::TestHealthy::{test}" for test in CATCHERS]
    for name, mutant in MUTANTS.items():
        nodes += [f"{MUTANTS_FILE}::{name}::{test}" for test in mutant.caught_by]
    options = ["-q", "--tb=no", "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *nodes],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # They fail by waiting in vain, so they need not wait for long.
            "KOMBU_CONTRACT_DEADLINE": "0.5",
        },
        cwd=MUTANTS_FILE.parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    cases = ET.parse(report).getroot().iter("testcase")
    return {
        (case.attrib["classname"].rpartition(".")[2], case.attrib["name"]): (
            case.find("failure") is not None
        )
        for case in cases
    }


def test_the_healthy_store_passes(outcomes: dict[tuple[str, str], bool]) -> None:
    assert [test for test in CATCHERS if outcomes["TestHealthy", test]] == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, outcomes: dict[tuple[str, str], bool]) -> None:
    missed = [test for test in MUTANTS[name].caught_by if not outcomes[name, test]]
    assert not missed, f"{name} passed {missed}"
