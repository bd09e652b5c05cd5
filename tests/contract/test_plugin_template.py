"""The generator of plugins: what it writes runs, and reports what is to be written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kombu_core.plugin_template import generate, main
from kombu_core.testing.store import METHODS

#: A whole store for the plugin: the one of the core, on a virtual host named by the prefix.
WHOLE = """
from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.url import BrokerURL

HOSTS: dict[str, VirtualHost] = {}


class AcmeStore(MemoryStore):
    def __init__(self, url: BrokerURL, prefix: str) -> None:
        super().__init__(HOSTS.setdefault(prefix, VirtualHost(prefix)))
"""
#: What an author may have after the first day: one of the methods is wrong.
THREE_METHODS = """
from kombu_core.memory import MemoryStore, VirtualHost

HOSTS: dict[str, VirtualHost] = {}


class Finished(AcmeStore):
    def __init__(self, url, prefix):
        self._memory = MemoryStore(HOSTS.setdefault(prefix, VirtualHost(prefix)))

    def read(self, keys):
        return self._memory.read(keys)

    def write(self, changes, expect, drops=()):
        return self._memory.write(changes, expect, drops)

    def scan(self, prefix):
        return self._memory.scan("")


AcmeStore = Finished
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A generated plugin, installed as far as importing and finding it goes."""
    folder = generate("acme", tmp_path)
    metadata = folder / "src" / "kombu_acme-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: kombu-acme\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[kombu_core.transports]\nacme = kombu_acme\n")
    return folder


def run_tests(plugin: Path, *options: str) -> str:
    """Run the tests of the plugin and return what pytest says."""
    path = os.pathsep.join([str(plugin / "src"), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        env={**os.environ, "PYTHONPATH": path},
        cwd=plugin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def failures(output: str) -> list[str]:
    return re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", output, re.MULTILINE)


def test_a_new_plugin_fails_for_the_methods_that_are_not_written(plugin: Path) -> None:
    output = run_tests(plugin, "-rsfE")
    assert failures(output) == [f"test_the_method_is_written[{name}]" for name in METHODS]
    for name in METHODS:
        assert f"AcmeStore.{name} is not written yet." in output
        assert f"More: the section `{name}` of docs/write-a-transport.md" in output
    # Its signature, and what it has to do.
    assert "def purge(self, queue: str) -> int" in output
    assert "Delete all ready messages (not the claimed ones), and tell how many." in output
    # The scheme, and the refusals of an option, of five parts of the URL, and of TLS.
    assert " 8 passed" in output
    assert "warning" not in output
    assert "the store lacks read, write, scan" in output


def test_what_is_written_is_tested(plugin: Path) -> None:
    store = plugin / "src" / "kombu_acme" / "store.py"
    store.write_text(store.read_text("utf-8") + THREE_METHODS)
    output = run_tests(plugin, "tests/test_acme_store.py")
    unwritten = [f"test_the_method_is_written[{name}]" for name in METHODS[3:]]
    assert failures(output) == [*unwritten, "test_a_scan_names_the_keys_of_a_prefix_sorted"]
    # The three that are there, and ten tests of documents that need no more than these.
    assert " 13 passed" in output
    assert "warning" not in output


def test_a_plugin_with_a_whole_store_passes(plugin: Path) -> None:
    (plugin / "src" / "kombu_acme" / "store.py").write_text(WHOLE)
    output = run_tests(plugin, "-k", "Transport or AcmeStore or draining or mandatory or lease")
    assert not failures(output), output
    assert re.search(r"\b\d{2,} passed", output), output


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b", "c"]])
def test_its_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: python -m kombu_core.plugin_template NAME [DIRECTORY]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "Acme", "my-broker", "a_b", "../x", "1a"])
def test_a_name_that_no_scheme_can_have_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, str(tmp_path)]) == 1
    assert "is no name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["acme", str(tmp_path)]) == 0
    assert str(tmp_path / "kombu_acme") in capsys.readouterr().out
    assert main(["acme", str(tmp_path)]) == 1
