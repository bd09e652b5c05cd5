"""The architecture, held by reading the source: who imports whom, how long, described or not."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Modules of the core. Each imports from its own line or the lines above it, never from below.
LAYERS = (
    ("exceptions", "forking"),
    ("capabilities", "closing"),
    ("records", "extras", "content", "typed_messages"),
    ("fast_json", "typed_json", "safe_yaml", "serializers", "compression"),
    ("serialization",),
    ("wrapping", "keyring"),
    ("sealing",),
    ("message",),
    ("claims",),
    ("declaration",),
    ("exchange",),
    ("entity",),
    ("url",),
    ("options",),
    ("retry",),
    ("transport",),
    ("hookspecs",),
    ("plugins",),
    ("virtual.envelope", "virtual.routing", "virtual.store"),
    ("virtual.tables", "virtual.contention", "virtual.driver_errors"),
    ("virtual.polling", "virtual.listening"),
    ("virtual.table_store",),
    ("virtual.topology", "virtual.policy", "virtual.deadletter"),
    ("virtual.directory",),
    ("virtual.broker", "virtual.declarations", "virtual.ledger"),
    ("virtual.acks",),
    ("virtual.precedence",),
    ("virtual.consuming", "virtual.transaction", "virtual.keeper", "virtual.method"),
    ("virtual.declaring",),
    ("virtual.session",),
    ("virtual.joining",),
    ("virtual.channel",),
    ("virtual.transport",),
    ("virtual",),
    ("memory", "plugin_template"),
    ("recovery",),
    ("producer", "consumer"),
    ("messaging", "batches", "simple", "resource"),
    ("description", "handles"),
    ("connection",),
    ("pools", "clocks", "qos", "broadcast", "receiving", "insurance"),
    ("patterns",),
    ("mixins",),
    ("rpc_wire", "pidbox_node"),
    ("rpc_server",),
    ("routing_explanation",),
    ("rpc", "pidbox", "retries", "idempotence", "topology_plan", "outbox"),
    ("replays",),
    ("",),  # the package itself: what it exports
    ("testing",),
)

#: What the core may import besides the standard library; the kit runs under pytest.
DEPENDENCIES = {"pluggy"}
KIT_DEPENDENCIES = DEPENDENCIES | {"pytest"}

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
LONGEST = 500

CORE = sorted((ROOT / "kombu_core").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").glob("*/src/**/*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "plugins").glob("*/tests/**/*.py"))
PLUGIN_PACKAGES = {path.name for path in (ROOT / "plugins").glob("*/src/*") if path.is_dir()}
FIRST_PARTY = PLUGIN_PACKAGES | {"kombu_core"}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(node: ast.AST, *, deep: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield each imported name with its dots, and whether it happens inside a function.

    Blocks under TYPE_CHECKING are for the type checker and are not imports.
    """
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                for branch in child.orelse:
                    yield from imports(branch, deep=deep)
            case ast.Import():
                yield from ((alias.name, deep) for alias in child.names)
            case ast.ImportFrom(module=str(module)):
                yield from ((f"{module}.{alias.name}", deep) for alias in child.names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from imports(child, deep=True)
            case _:
                yield from imports(child, deep=deep)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), label(path))


def module(path: Path) -> str:
    """Return a core module's name without `kombu_core.`."""
    parts = path.relative_to(ROOT / "kombu_core").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name: str) -> int:
    """Return where a core module, or something in it, belongs: the longest match decides."""
    while name:
        for number, members in enumerate(LAYERS):
            if name in members:
                return number
        name = name.rpartition(".")[0]
    return next(number for number, members in enumerate(LAYERS) if "" in members)


@pytest.mark.parametrize("path", CORE, ids=label)
def test_a_core_module_has_its_place_in_the_layers(path: Path) -> None:
    name = module(path)
    assert name == "" or layer(name) != layer(""), f"{name} is in no line of LAYERS"


@pytest.mark.parametrize("path", CORE, ids=label)
def test_the_core_imports_downwards(path: Path) -> None:
    name = module(path)
    upwards = [
        imported
        for imported, _ in imports(parsed(path))
        if imported.split(".")[0] == "kombu_core"
        and layer(imported.removeprefix("kombu_core").lstrip(".")) > layer(name)
    ]
    assert not upwards, f"{name} imports from above: {upwards}"


@pytest.mark.parametrize("path", CORE, ids=label)
def test_the_core_imports_the_standard_library_and_pluggy(path: Path) -> None:
    allowed = KIT_DEPENDENCIES if module(path).startswith("testing") else DEPENDENCIES
    tops = {imported.split(".")[0] for imported, _ in imports(parsed(path))}
    assert tops <= allowed | {"kombu_core"} | sys.stdlib_module_names


@pytest.mark.parametrize("path", PLUGINS, ids=label)
def test_no_plugin_imports_another_or_the_kit(path: Path) -> None:
    own = path.relative_to(ROOT / "plugins").parts[2]
    for imported, _ in imports(parsed(path)):
        assert imported.split(".")[0] not in PLUGIN_PACKAGES - {own}
        assert not imported.startswith("kombu_core.testing")


@pytest.mark.parametrize("path", CORE + PLUGINS, ids=label)
def test_no_first_party_import_hides_in_a_function(path: Path) -> None:
    hidden = [
        imported
        for imported, in_function in imports(parsed(path))
        if in_function and imported.split(".")[0] in FIRST_PARTY
    ]
    assert not hidden


@pytest.mark.parametrize("path", CORE + PLUGINS + TESTS, ids=label)
def test_a_module_is_named_and_described_and_of_readable_length(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    first_line = (docstring or "").partition("\n")[0]
    assert first_line.strip(), "the first line says what the module is for"


def test_importing_the_core_imports_no_driver_and_no_test_tool() -> None:
    program = "import sys, kombu_core; print(*{name.split('.')[0] for name in sys.modules})"
    kit = "assert 'kombu_core.testing' not in sys.modules"
    output = subprocess.run(
        [sys.executable, "-c", f"{program}; {kit}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    unwanted = {"pytest", "_pytest", "redis", "amqp", "kombu", "pika", "sqlalchemy", "django"}
    unwanted |= {"msgpack", "msgspec", "orjson", "yaml", "brotli", "zstandard", "cryptography"}
    assert not unwanted & set(output.split())
