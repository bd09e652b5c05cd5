"""The built wheels, installed outside the checkout: complete, typed and working."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "kombu_files"
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
PROJECTS = [ROOT, *PLUGINS, EXAMPLE]

SMOKE = """
import kombu_core
from kombu_core import Connection, Consumer, Exchange, Producer, Queue

queue = Queue("smoke", Exchange("smoke"), routing_key="key")
received = []

def receive(body, message):
    received.append(body)
    message.ack()

with Connection("memory://") as connection:
    producer = Producer(connection)
    producer.publish({"n": 1}, exchange="smoke", routing_key="key", declare=[queue])
    with Consumer(connection, [queue], callbacks=[receive]):
        connection.drain_events(timeout=5)

assert received == [{"n": 1}], received
print(kombu_core.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command away from the checkout and return its output; its errors are shown."""
    away = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=away, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an sdist of every project, and the wheel made from that sdist."""
    directory = tmp_path_factory.mktemp("dist")
    for project in PROJECTS:
        build: list[str | Path] = [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            directory,
        ]
        run(*build, project, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheels and what they require, only that.

    Nothing is downloaded: the requirements are linked from the environment of the tests.
    """
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False, symlinks=True)
    interpreter = directory / "bin" / "python"
    wheels = sorted(built.glob("*.whl"))
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", interpreter]
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", *wheels, cwd=directory)
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(interpreter, "-c", query, cwd=directory).strip())
    for source in requirements_on_disk():
        (packages / source.name).symlink_to(source)
    run(*pip, "check", cwd=directory)
    return interpreter


def requirements_on_disk() -> Iterator[Path]:
    """Yield the packages, with their metadata, that our distributions require, theirs included."""
    ours = {"kombu-core", *(project.name.replace("_", "-") for project in PROJECTS[1:])}
    yield from on_disk(ours, ours)


def on_disk(names: Iterable[str], ours: Collection[str] = ()) -> Iterator[Path]:
    """Yield the packages of distributions and of all that they require, except ours."""
    pending, seen = sorted(names), set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = metadata.distribution(name)
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
        if name not in ours:
            tops = {file.parts[0] for file in distribution.files or ()}
            yield from (
                Path(str(distribution.locate_file(top))) for top in tops - {"..", "__pycache__"}
            )


def test_the_wheels_hold_all_that_the_sources_do(built: Path) -> None:
    for project in PROJECTS:
        name = "kombu_core" if project == ROOT else project.name
        source = ROOT if project == ROOT else project / "src"
        [wheel] = built.glob(f"{name}-*.whl")
        packed = {each for each in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in each}
        here = {
            str(path.relative_to(source))
            for path in (source / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert packed == here
        assert f"{name}/py.typed" in packed


def test_the_sdist_of_the_core_leaves_the_plugins_out(built: Path) -> None:
    [sdist] = built.glob("kombu_core-*.tar.gz")
    with tarfile.open(sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames()}
    expected = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "kombu_core"}
    assert tops == expected | {"pyproject.toml", "tests"}


def test_an_installed_core_works(python: Path, tmp_path: Path) -> None:
    where = run(python, "-W", "error", "-c", SMOKE, cwd=tmp_path).strip()
    assert Path(where).is_relative_to(python.parents[1])
    assert "site-packages" in where


def test_every_installed_transport_can_be_loaded(python: Path, tmp_path: Path) -> None:
    program = """
from importlib.metadata import entry_points
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["kombu_django"])
django.setup()
for point in entry_points(group="kombu_core.transports"):
    print(point.name, point.load().__file__)
"""
    lines = run(python, "-W", "error", "-c", program, cwd=tmp_path).splitlines()
    found = dict(line.split(" ", 1) for line in lines)
    assert {"memory", "redis", "rediss", "redis+socket", "files"} <= set(found)
    for path in found.values():
        assert Path(path).is_relative_to(python.parents[1])


@pytest.mark.timeout(300)
def test_the_installed_example_passes_what_is_mandatory(python: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    tools = tmp_path / "tools"
    tools.mkdir()
    for package in on_disk(["pytest", "pytest-timeout"]):
        if not (tools / package.name).exists():
            (tools / package.name).symlink_to(package)
    program = f"""
import sys
sys.path.append({str(tools)!r})
import kombu_files, pytest
assert kombu_files.__file__.startswith({str(python.parents[1])!r})
options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-m", "not requires"]
sys.exit(pytest.main([*options, "-p", "kombu_core.testing.plugin", "tests/test_files_contract.py"]))
"""
    output = run(python, "-c", program, cwd=tmp_path)
    assert re.search(r"\b[34]\d\d passed", output), output


def test_the_installed_core_writes_the_beginnings_of_a_plugin(python: Path, tmp_path: Path) -> None:
    run(python, "-m", "kombu_core.plugin_template", "acme", cwd=tmp_path)
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "kombu_acme", cwd=tmp_path)
    [wheel] = (tmp_path / "kombu_acme" / "dist").glob("kombu_acme-0.1.0-*.whl")
    assert "kombu_acme/py.typed" in zipfile.ZipFile(wheel).namelist()
