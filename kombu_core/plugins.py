"""Finding what is installed: transports by URL scheme, loaded one at a time and only when named.

Entry-point groups: `kombu_core.transports`, where the name is the scheme and only the one that is
asked for is imported; and `kombu_core.extensions` for plugins that add exchange types, codecs or
observers, which are loaded together when the first connection is made.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import pluggy

from kombu_core import hookspecs
from kombu_core.exceptions import PluginLoadError, TransportNotFoundError
from kombu_core.forking import tell_of_forks
from kombu_core.serialization import Registry, default_registry
from kombu_core.transport import TransportClass

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

TRANSPORTS: Final = "kombu_core.transports"
EXTENSIONS: Final = "kombu_core.extensions"

#: Which distribution serves a scheme that is not installed; a hint for people, nothing more.
_DISTRIBUTIONS: Final[Mapping[str, str]] = {
    "amqp": "kombu-amqp",
    "amqps": "kombu-amqp",
    "pyamqp": "kombu-amqp",
    "pika": "kombu-amqp[pika]",
    "pikas": "kombu-amqp[pika]",
    "redis": "kombu-redis",
    "rediss": "kombu-redis",
    "redis+socket": "kombu-redis",
    "redis+cluster": "kombu-redis",
    "sentinel": "kombu-redis",
    "beanstalk": "kombu-beanstalk",
    "sqlalchemy": "kombu-sqlalchemy",
    "sqla": "kombu-sqlalchemy",
    "django": "kombu-django",
}
#: Schemes of databases, and what to write instead: likely mistakes of people.
_DATABASES: Final[Mapping[str, str]] = {
    "sqlite": "sqlalchemy+sqlite",
    "postgresql": "sqlalchemy+postgresql",
    "postgres": "sqlalchemy+postgresql",
    "mysql": "sqlalchemy+mysql",
    "mariadb": "sqlalchemy+mariadb",
}


class Plugins:
    """The plugins of a program. Thread-safe; an instance knows nothing of another one.

    Args:
        registry: Where serializers and compressions of plugins are added.
    """

    def __init__(self, *, registry: Registry = default_registry) -> None:
        self._registry = registry
        self.forked()
        tell_of_forks(self)
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._classes: dict[str, TransportClass] = {}
        self._has_extensions = False

    def forked(self) -> None:
        """In a forked child: the parent's threads may have held the lock."""
        self._lock = threading.RLock()

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin that is no installed distribution, as a test's or an application's own.

        Raises:
            PluginLoadError: It implements a hook that does not exist, or another contract, or it
                or its name is registered already.
        """
        with self._lock:
            shown = name or str(getattr(plugin, "__name__", type(plugin).__name__))
            known_as = name or self._manager.get_canonical_name(plugin)
            if self._manager.has_plugin(known_as) or self._manager.is_registered(plugin):
                raise PluginLoadError(shown, "the application", "it is registered already")
            self._add(plugin, known_as, shown, "the application")
            self._classes.clear()

    def schemes(self) -> list[str]:
        """Return the URL schemes that are installed, sorted, without loading any plugin."""
        return sorted({point.name for point in _entry_points(TRANSPORTS)})

    def transport_class(self, scheme: str) -> TransportClass:
        """Return what serves `scheme` (`sqlalchemy+postgresql` is served as `sqlalchemy`, too).

        Raises:
            TransportNotFoundError: Nothing that is installed does; it says what would.
            PluginLoadError: The plugin that should is broken.
        """
        with self._lock:
            found = self._classes.get(scheme)
            if found is None:
                found = self._find(scheme)
                self._classes[scheme] = found
            return found

    def exchange_types(self) -> dict[str, Any]:
        """Return the exchange types that plugins add."""
        merged: dict[str, Any] = {}
        for types in self.hook.kombu_exchange_types():
            merged.update(types)
        return merged

    def observer(self, hook_name: str) -> Callable[..., Any] | None:
        """Return the caller of an observation hook, or None if no plugin implements it."""
        hook = getattr(self.hook, hook_name)
        return hook if hook.get_hookimpls() else None

    def load_extensions(self) -> None:
        """Load the extensions, unless it was done before; a broken one is only warned of."""
        with self._lock:
            if self._has_extensions:
                return
            self._has_extensions = True
            for point in _entry_points(EXTENSIONS):
                try:
                    self._load(point)
                except PluginLoadError as error:
                    # It was asked for by nobody, so it may not stop anybody.
                    warnings.warn(str(error), RuntimeWarning, stacklevel=3)

    @property
    def hook(self) -> pluggy.HookRelay:
        """The hooks, all extensions loaded."""
        self.load_extensions()
        return self._manager.hook

    # -- inside ----------------------------------------------------------------------------

    def _find(self, scheme: str) -> TransportClass:
        point = _entry_point(scheme)
        if point is not None:
            self._load(point)
        found = self.hook.kombu_transport(scheme=scheme)
        if found is not None:
            return found  # type: ignore[no-any-return]  # pluggy's hooks are untyped
        if point is not None:
            raise PluginLoadError(
                point.name, _distribution(point), f"it serves no scheme {scheme!r} after all"
            )
        raise TransportNotFoundError(scheme, self.schemes(), _hint(scheme))

    def _load(self, point: EntryPoint) -> None:
        distribution = _distribution(point)
        # A distribution may have several plugins, and a plugin several entry points.
        name = f"{distribution}:{point.value}"
        if self._manager.has_plugin(name):
            return
        try:
            plugin = point.load()
        except Exception as error:
            # Whatever a plugin raises while it is imported is its own, and breaks no other.
            reason = f"{type(error).__name__}: {error}"
            raise PluginLoadError(point.name, distribution, reason) from error
        if not self._manager.is_registered(plugin):
            self._add(plugin, name, point.name, distribution)

    def _add(self, plugin: object, name: str, shown: str, distribution: str) -> None:
        contract = getattr(plugin, "KOMBU_CONTRACT", hookspecs.CONTRACT_VERSION)
        if contract != hookspecs.CONTRACT_VERSION:
            raise PluginLoadError(
                shown,
                distribution,
                f"it was made for contract {contract}, and this kombu-core has contract "
                f"{hookspecs.CONTRACT_VERSION}; install matching versions",
            )
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
            self._add_codecs(plugin)
        except Exception as error:
            if self._manager.has_plugin(name):  # What pluggy refuses was not always added before.
                self._manager.unregister(name=name)
            reason = str(error)
            if not isinstance(error, pluggy.PluginValidationError):
                reason = f"{type(error).__name__}: {error}"
            raise PluginLoadError(shown, distribution, reason) from error

    def _add_codecs(self, plugin: object) -> None:
        hooks, registry = self._manager.hook, self._registry
        for hook, add in (
            (hooks.kombu_serializers, registry.add),
            (hooks.kombu_compressors, registry.add_compressor),
        ):
            for implementation in hook.get_hookimpls():
                if implementation.plugin is plugin:
                    codecs: Any = implementation.function()
                    for name, codec in codecs.items():
                        add(name, codec)


def _hint(scheme: str) -> str:
    """Return what to do about a scheme that nothing serves."""
    name, plus, driver = scheme.partition("+")
    distribution = _DISTRIBUTIONS.get(scheme) or _DISTRIBUTIONS.get(name)
    if distribution:
        return f"Install it with: pip install {distribution}"
    if name in _DATABASES:
        hint = f"Begin a database's URL with {_DATABASES[name]}{plus}{driver}://"
        is_there = _entry_point("sqlalchemy") is not None
        return hint if is_there else f"{hint} and install it with: pip install kombu-sqlalchemy"
    return f"A plugin that is installed has an entry point of that name in {TRANSPORTS!r}."


def _entry_point(scheme: str) -> EntryPoint | None:
    """Return the first entry point for a scheme, or for the part of it before a plus."""
    for name in (scheme, scheme.partition("+")[0]):
        for point in _entry_points(TRANSPORTS):
            if point.name == name:
                return point
    return None


def _entry_points(group: str) -> EntryPoints:
    # Imported here because it takes longer than all of this package, and the first connection
    # needs it, not the import.
    from importlib.metadata import entry_points

    return entry_points(group=group)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


#: What connections use unless they are given their own.
default_plugins: Final = Plugins()
