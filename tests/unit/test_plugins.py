"""Finding plugins: one at a time, from real distributions, and a broken one breaks no other."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kombu_core import Connection, Exchange, Queue
from kombu_core.exceptions import PluginLoadError, TransportNotFoundError, UnsupportedError
from kombu_core.hookspecs import hookimpl
from kombu_core.memory import MemoryTransport
from kombu_core.plugins import EXTENSIONS, TRANSPORTS, Plugins
from kombu_core.virtual.routing import BindingTable, FanoutTable

Install = Callable[..., None]

SERVES = """
from kombu_core.hookspecs import hookimpl
from kombu_core.memory import MemoryTransport

class Transport(MemoryTransport):
    driver_name = __name__

@hookimpl
def kombu_transport(scheme):
    return Transport if scheme in {schemes!r} else None
"""


def serves(*schemes: str) -> str:
    return SERVES.format(schemes=schemes)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution of one module, with entry points, for this test."""
    before = set(sys.modules)

    def install(module: str, source: str, group: str = TRANSPORTS, **points: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{module}\nVersion: 1\n")
        lines = [f"{name.replace('_', '+')} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in set(sys.modules) - before:
        del sys.modules[name]


def driver(plugins: Plugins, scheme: str) -> str:
    return str(getattr(plugins.transport_class(scheme), "driver_name"))  # noqa: B009


# -- transports by scheme --------------------------------------------------------------------


def test_only_the_module_that_serves_the_scheme_is_imported(install: Install) -> None:
    install("plugin_a", serves("aaa"), aaa="plugin_a")
    install("plugin_b", serves("bbb"), bbb="plugin_b")
    plugins = Plugins()
    assert {"aaa", "bbb", "memory"} <= set(plugins.schemes())
    assert not {"plugin_a", "plugin_b"} & set(sys.modules)
    assert driver(plugins, "bbb") == "plugin_b"
    assert "plugin_a" not in sys.modules
    assert driver(plugins, "bbb") == "plugin_b"


def test_a_connection_uses_the_plugin_of_its_scheme(install: Install) -> None:
    install("plugin_a", serves("aaa"), aaa="plugin_a")
    with Connection("aaa://", plugins=Plugins()) as connection:
        assert connection.transport.driver_name == "plugin_a"


def test_two_entry_points_may_share_a_module(install: Install) -> None:
    install("plugin_a", serves("aaa", "aaas"), aaa="plugin_a", aaas="plugin_a")
    plugins = Plugins()
    assert driver(plugins, "aaa") == driver(plugins, "aaas") == "plugin_a"


def test_a_distribution_may_have_several_plugins(install: Install) -> None:
    install("plugin_b", serves("bbb"))
    install("plugin_a", serves("aaa"), aaa="plugin_a", bbb="plugin_b")
    plugins = Plugins()
    assert driver(plugins, "aaa") == "plugin_a"
    assert driver(plugins, "bbb") == "plugin_b"


def test_a_scheme_with_a_dialect_is_served_by_what_stands_before_the_plus(install: Install) -> None:
    install("plugin_a", serves("aaa+x"), aaa="plugin_a")
    install("plugin_b", serves("bbb+x"), bbb_x="plugin_b")
    plugins = Plugins()
    assert driver(plugins, "aaa+x") == "plugin_a"
    assert driver(plugins, "bbb+x") == "plugin_b"


@pytest.mark.parametrize(
    ("scheme", "hint"),
    [
        ("beanstalk", "pip install kombu-beanstalk"),
        ("sqlalchemy+postgresql", "pip install kombu-sqlalchemy"),
        (
            "sqlite",
            "sqlalchemy+sqlite:// and install it with: pip install kombu-sqlalchemy",
        ),
        ("postgres", "Begin a database's URL with sqlalchemy+postgresql://"),
        ("mysql+pymysql", "Begin a database's URL with sqlalchemy+mysql+pymysql://"),
        ("nonsense", None),
    ],
)
def test_an_unknown_scheme_names_what_is_installed_and_what_to_install(
    scheme: str, hint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever happens to be installed here.
    only_memory = partial(entry_points, name="memory")
    monkeypatch.setattr("kombu_core.plugins._entry_points", lambda group: only_memory(group=group))
    with pytest.raises(TransportNotFoundError) as caught:
        Plugins().transport_class(scheme)
    assert caught.value.scheme == scheme
    assert caught.value.installed == ("memory",)
    assert "memory" in str(caught.value)
    assert (hint in str(caught.value)) if hint else ("pip install" not in str(caught.value))


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("def broken(:", SyntaxError),
        ("import a_driver_that_is_not_there", ModuleNotFoundError),
        ("raise ImportError('libfoo.so is too old')", ImportError),
        ("1 / 0", ZeroDivisionError),
    ],
)
def test_a_broken_plugin_is_named_with_its_cause_and_leaves_the_others_working(
    source: str, cause: type[Exception], install: Install
) -> None:
    install("plugin_a", source, aaa="plugin_a")
    install("plugin_b", serves("bbb"), bbb="plugin_b")
    plugins = Plugins()
    for _ in range(2):
        with pytest.raises(PluginLoadError, match="dist-plugin_a") as caught:
            plugins.transport_class("aaa")
        assert caught.value.entry_point == "aaa"
        assert caught.value.distribution == "dist-plugin_a"
        assert isinstance(caught.value.__cause__, cause)
    assert driver(plugins, "bbb") == "plugin_b"
    assert driver(plugins, "memory") == "memory"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("KOMBU_CONTRACT = 7", "contract 7"),
        (serves("aaa").replace("def kombu_transport", "def kombu_trasport"), "kombu_trasport"),
        (serves("aaa").replace("(scheme)", "(schema)"), "schema"),
        (serves("something else"), "serves no scheme 'aaa'"),
        ("plugin = 1", "serves no scheme 'aaa'"),
    ],
    ids=["contract", "misspelt hook", "misspelt argument", "other scheme", "no hooks"],
)
def test_a_plugin_that_does_not_fit_is_refused_by_name(
    source: str, reason: str, install: Install
) -> None:
    install("plugin_a", source, aaa="plugin_a")
    install("plugin_b", serves("bbb"), bbb="plugin_b")
    plugins = Plugins()
    for _ in range(2):
        with pytest.raises(PluginLoadError, match="dist-plugin_a") as caught:
            plugins.transport_class("aaa")
        assert reason in str(caught.value)
    assert driver(plugins, "bbb") == "plugin_b"


def test_plugins_know_nothing_of_each_other(install: Install) -> None:
    one, other = Plugins(), Plugins()
    one.register(SimpleNamespace(kombu_transport=hookimpl(lambda scheme: MemoryTransport)), "mine")
    assert one.transport_class("anything") is MemoryTransport
    with pytest.raises(TransportNotFoundError):
        other.transport_class("anything")


# -- extensions ------------------------------------------------------------------------------

OBSERVES = """
from kombu_core.hookspecs import hookimpl
opened = []

@hookimpl
def kombu_connection_opened(transport):
    opened.append(transport)
"""


def test_extensions_are_loaded_with_the_first_connection(install: Install) -> None:
    install("plugin_x", OBSERVES, EXTENSIONS, anything="plugin_x")
    plugins = Plugins()
    assert "plugin_x" not in sys.modules
    with Connection("memory://", plugins=plugins) as connection:
        transport = connection.transport
        assert sys.modules["plugin_x"].opened == [transport]


def test_a_broken_extension_warns_once_and_breaks_nothing(install: Install) -> None:
    install("plugin_x", "1 / 0", EXTENSIONS, anything="plugin_x")
    install("plugin_y", OBSERVES, EXTENSIONS, anything="plugin_y")
    plugins = Plugins()
    with pytest.warns(RuntimeWarning, match="dist-plugin_x"):
        plugins.transport_class("memory")
    with warnings.catch_warnings(), Connection("memory://", plugins=plugins) as connection:
        warnings.simplefilter("error")
        connection.connect()
        assert len(sys.modules["plugin_y"].opened) == 1


# -- plugins of the application --------------------------------------------------------------


class OddTable(FanoutTable):
    """Routes to every binding whose key has as many letters as the message's."""

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> Any:
        return [place for key, place in self._places() if len(key) == len(routing_key)]

    def add(self, binding: Any) -> None:
        self._bound[f"{binding.routing_key}|{binding.id}"] = binding.destination

    def _places(self) -> Any:
        return ((name.partition("|")[0], place) for name, place in self._bound.items())


def test_an_exchange_type_of_the_application_routes() -> None:
    types: dict[str, type[BindingTable]] = {"x-length": OddTable}
    plugins = Plugins()
    plugins.register(SimpleNamespace(kombu_exchange_types=hookimpl(lambda: types)), "lengths")
    with Connection("memory://x-length", plugins=plugins) as connection:
        assert "x-length" in connection.transport.capabilities.exchange_types
        exchange = Exchange("e", "x-length")
        queues = [Queue(key, exchange, key)(connection) for key in ("a", "bb", "cc")]
        for queue in queues:
            queue.declare()
        connection.Producer(exchange=exchange).publish("hello", "xx")
        assert [queue.get() is not None for queue in queues] == [False, True, True]
    with Connection("memory://x-length") as connection, pytest.raises(UnsupportedError):
        Exchange("f", "x-length")(connection).declare()


def misspelt() -> ModuleType:
    module = ModuleType("misspelt")
    module.kombu_conection_opened = hookimpl(lambda transport: None)  # type: ignore[attr-defined]
    return module


def test_a_misspelt_hook_of_the_application_is_refused_and_can_be_corrected() -> None:
    plugins = Plugins()
    with pytest.raises(PluginLoadError, match="kombu_conection_opened"):
        plugins.register(misspelt())
    plugins.register(ModuleType("misspelt"))


def test_registering_twice_is_refused_and_spoils_nothing() -> None:
    plugins = Plugins()
    plugin = SimpleNamespace(kombu_transport=hookimpl(lambda scheme: MemoryTransport))
    plugins.register(plugin, "mine")
    for again in (plugin, SimpleNamespace()):
        with pytest.raises(PluginLoadError, match="mine"):
            plugins.register(again, "mine")
    assert plugins.transport_class("anything") is MemoryTransport


def test_objects_of_one_class_may_all_be_plugins() -> None:
    plugins = Plugins()
    opened: list[int] = []
    for number in (1, 2):
        hook = hookimpl(lambda transport, number=number: opened.append(number))
        plugins.register(SimpleNamespace(kombu_connection_opened=hook))
    with Connection("memory://", plugins=plugins) as connection:
        connection.connect()
    assert sorted(opened) == [1, 2]
