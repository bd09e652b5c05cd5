"""Make the beginnings of a plugin: `python -m kombu_core.plugin_template NAME [DIRECTORY]`.

What it writes is a distribution that can be installed, whose tests run. They fail for the methods
of the store that are not written yet, and each failure says what the method has to do.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

from kombu_core.hookspecs import CONTRACT_VERSION
from kombu_core.virtual.store import Store

#: What the methods that are not written point to.
GUIDE: Final = "docs/write-a-transport.md"

USAGE: Final = """usage: python -m kombu_core.plugin_template NAME [DIRECTORY]

Writes the beginnings of the distribution kombu-NAME into DIRECTORY/kombu_NAME (DIRECTORY: here).
NAME is the URL scheme: a small letter, then small letters and digits.
"""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*")

_FILES: Final = {
    "pyproject.toml": """[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "kombu-$name"
version = "0.1.0"
description = "$Name as a broker for kombu-core"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["kombu-core>=0.1,<0.2"]

[project.optional-dependencies]
testing = ["kombu-core[testing]"]

# The entry point's name is the URL scheme.
[project.entry-points."kombu_core.transports"]
$name = "kombu_$name"

[tool.hatch.build.targets.wheel]
packages = ["src/kombu_$name"]

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib", "-p", "kombu_core.testing.plugin"]
testpaths = ["tests"]
""",
    "README.md": """# kombu-$name

$Name as a broker for `kombu-core`.

    pip install -e .[testing]
    python -m pytest

The tests tell what is to be written next; `docs/write-a-transport.md` of kombu-core tells more.

| Option | Default | |
|---|---|---|
| `lease` | 30 | after so many seconds without a sign of life a connection is dead |
| `prefix` | `kombu` | what the names of all that is stored begin with |
""",
    "src/kombu_$name/py.typed": "",
    "src/kombu_$name/__init__.py": '''"""The plugin of kombu_core for $Name."""

from __future__ import annotations

from typing import Final

from kombu_core.hookspecs import hookimpl
from kombu_core.transport import TransportClass
from kombu_$name.transport import ${Name}Transport

#: The major version of kombu_core's contracts that this was written for.
KOMBU_CONTRACT: Final = $contract


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Serve `$name`."""
    return ${Name}Transport if scheme == "$name" else None
''',
    "src/kombu_$name/transport.py": '''"""The transport of $Name: from a URL to a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from kombu_core.exceptions import ConfigurationError
from kombu_core.options import parse_options
from kombu_core.transport import TransportParameters
from kombu_core.virtual.transport import DEFAULT_LEASE, VirtualTransport
from kombu_$name.store import ${Name}Store

#: Parts of a URL that are refused, as they mean nothing here; take out what the store uses.
MEANINGLESS: Final = ("userid", "password", "hostname", "port", "socket_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class ${Name}Options:
    """Options of `$name://`, in the URL's query or in `transport_options`."""

    #: Seconds after which another connection has the messages of one that was not heard of.
    lease: float = DEFAULT_LEASE
    #: What the names of all that is stored begin with.
    prefix: str = "kombu"


class ${Name}Transport(VirtualTransport):
    """AMQP on $Name."""

    driver_type: ClassVar[str] = "$name"
    driver_name: ClassVar[str] = "$name"

    def __init__(self, parameters: TransportParameters) -> None:
        values = {**parameters.url.query, **parameters.options}
        self._options = parse_options(
            ${Name}Options, values, source="the options of the $name transport"
        )
        for part in MEANINGLESS:
            if getattr(parameters.url, part) is not None:
                raise ConfigurationError(f"a URL of $name has no {part}")
        if parameters.ssl:  # Until the store speaks TLS.
            raise ConfigurationError("$name has no TLS")
        super().__init__(parameters, lease=self._options.lease)

    def open_store(self) -> ${Name}Store:
        # url.virtual_host is None if the URL has no path: then take a name of your own for it.
        return ${Name}Store(self.parameters.url, self._options.prefix)
''',
    "src/kombu_$name/store.py": '''"""The store on $Name.

What its methods take, return and raise is in kombu_core.virtual.store (also Claim, Limit, Conflict
and NotEmpty), and SessionLostError in kombu_core.exceptions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kombu_core.capabilities import StoreCapabilities
from kombu_core.url import BrokerURL
from kombu_core.virtual.store import (
    Batch,
    Claimed,
    CommitResult,
    Counts,
    Document,
    Drop,
    Want,
    WriteResult,
)


class ${Name}Store:
    """See `kombu_core.virtual.store.Store` for the contract."""

    #: What it cannot do is said here, by False; see kombu_core.capabilities.
    capabilities = StoreCapabilities(name="$name", shared=True, persistent=True)

    def __init__(self, url: BrokerURL, prefix: str) -> None:
        self._url = url
        self._prefix = prefix
$methods''',
    "tests/test_${name}_transport.py": '''"""The plugin is found by its scheme."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import ConfigurationError
from kombu_core.plugins import default_plugins
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_$name.transport import MEANINGLESS, ${Name}Transport

#: A URL that has a part, and little more.
URLS = {
    "userid": "$name://somebody@",
    "password": "$name://:secret@",
    "hostname": "$name://somewhere",
    "port": "$name://:5",
    "socket_path": "$name+socket:///path",
}


def test_the_scheme_is_served() -> None:
    assert default_plugins.transport_class("$name") is ${Name}Transport


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown option speed"):
        ${Name}Transport(TransportParameters(parse("$name://?speed=11"), {}))


@pytest.mark.parametrize("part", MEANINGLESS)
def test_a_part_of_the_url_that_means_nothing_is_refused(part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        ${Name}Transport(TransportParameters(parse(URLS[part]), {}))


def test_tls_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no TLS"):
        ${Name}Transport(TransportParameters(parse("$name://"), {}, ssl=True))
''',
    "tests/test_${name}_store.py": '''"""The tests of a store, on $Name."""

from __future__ import annotations

import pytest

from kombu_core.testing.store import OpenStore, StoreContract
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_$name.transport import ${Name}Transport

URL = "$name://"


class Test${Name}Store(StoreContract):
    """A prefix for each test."""

    @pytest.fixture
    def open_store(self, token: str) -> OpenStore:
        parameters = TransportParameters(parse(URL), {"prefix": token})
        return lambda: ${Name}Transport(parameters).open_store()
''',
    "tests/test_${name}_contract.py": '''"""The contract kit on $Name."""

from __future__ import annotations

import pytest

from kombu_core.testing.contract import BrokerUnderTest, TransportContract
from kombu_core.testing.store import unwritten
from kombu_$name.store import ${Name}Store

URL = "$name://"
LACKING = ", ".join(unwritten(${Name}Store))


@pytest.mark.skipif(bool(LACKING), reason=f"the store lacks {LACKING}")
class Test${Name}(TransportContract):
    """A prefix for each test."""

    @pytest.fixture
    def broker(self, token: str) -> BrokerUnderTest:
        return BrokerUnderTest(
            url=URL, transport_options={"lease": 0.5, "prefix": token}, lease=0.5
        )
''',
}


def generate(name: str, directory: Path) -> Path:
    """Write the plugin, and return its folder.

    Raises:
        ValueError: It cannot have that name.
        FileExistsError: There is such a folder.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: a small letter, then small letters and digits")
    folder = directory / f"kombu_{name}"
    folder.mkdir(parents=True)
    values = {"name": name, "Name": name.capitalize(), "contract": str(CONTRACT_VERSION)}
    values["methods"] = _methods(f"{values['Name']}Store")
    for path, text in _FILES.items():
        file = folder / Template(path).substitute(values)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(values), encoding="utf-8")
    return folder


def _methods(store_class: str) -> str:
    functions = [each for name, each in vars(Store).items() if not name.startswith("_")]
    return "".join(_method(store_class, each) for each in functions if inspect.isfunction(each))


def _method(store_class: str, function: Callable[..., Any]) -> str:
    """Return the definition of a method that is not written yet."""
    name, signature = function.__name__, inspect.signature(function)
    arguments = ", ".join(str(each) for each in signature.parameters.values()).replace("'", "")
    returns = str(signature.return_annotation)
    lines = [f"    def {name}({arguments}) -> {returns}:"]
    if len(lines[0]) > 100:
        lines = [f"    def {name}(", *(f"        {each}," for each in _split(arguments))]
        lines += [f"    ) -> {returns}:"]
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    lines += [
        f'        """{summary}"""',
        f'        raise NotImplementedError("{store_class}.{name} is not written: see {GUIDE}")',
    ]
    return "\n" + "\n".join(lines) + "\n"


def _split(arguments: str) -> list[str]:
    """Split at the commas that are in no brackets."""
    return re.split(r", (?![^\[]*\]|[^(]*\))", arguments)


def main(arguments: Sequence[str]) -> int:
    """Obey a command line, and return its exit status."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        sys.stderr.write(USAGE)
        return 2
    try:
        folder = generate(arguments[0], Path(*arguments[1:]))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"{folder}: now `pip install -e {folder}[testing]`, and run `python -m pytest` there.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
