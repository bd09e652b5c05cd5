"""YAML without objects, aliases that multiply, or numbers that take minutes to read.

Only the tags of YAML's own types are known. A document may be as large as `MAX_BYTES` and, with
its aliases written out, have as many nodes as one of that size without aliases can have.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from kombu_core.exceptions import ContentTooLargeError, EncodeError
from kombu_core.extras import import_extra
from kombu_core.records import members_of

#: Bytes of a document: it takes about a second for each MiB of it.
MAX_BYTES: Final = 4 * 1024 * 1024
#: Nodes of a document, those behind an alias counted each time: a node takes two bytes or more.
MAX_NODES: Final = MAX_BYTES // 2
#: Characters of a number: YAML has numbers to the base of 60, whose reading takes the square of it.
MAX_NUMBER_LENGTH: Final = 4300
#: Characters of a number that is a key: longer ones can be chosen to have the same hash.
MAX_KEY_LENGTH: Final = 15

_NUMBERS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def dumps(data: Any) -> str:
    """Encode, without aliases, in the order of the dicts.

    Raises:
        EncodeError: A value has a type that YAML does not have, contains itself, or is too large.
    """
    try:
        text: str = _yaml().dump(data, Dumper=_dumper(), allow_unicode=True, sort_keys=False)
    except RecursionError:
        raise EncodeError("The value is nested too deeply for YAML, or contains itself") from None
    size = len(text.encode())
    if size > MAX_BYTES:
        raise EncodeError(f"{size} bytes of YAML are more than the {MAX_BYTES} that are read")
    return text


@cache
def _dumper() -> Any:
    yaml = _yaml()
    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        """PyYAML's, and no aliases, and records as mappings."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent_dict(dumper: Any, data: dict[Any, Any]) -> Any:
        for key in data:
            if isinstance(key, int | float) and len(str(key)) > MAX_KEY_LENGTH:
                raise EncodeError(f"A number as a key has at most {MAX_KEY_LENGTH} characters")
        return dumper.represent_dict(data)

    def represent_other(dumper: Any, data: Any) -> Any:
        members = members_of(data)
        if members is None:
            raise EncodeError(f"{type(data).__name__} has no YAML form")
        return dumper.represent_dict(members)

    Dumper.add_representer(dict, represent_dict)
    Dumper.add_representer(None, represent_other)
    return Dumper


def loads(body: bytes) -> Any:
    """Decode one document.

    Raises:
        ContentTooLargeError: It is too large, too deep, or its aliases multiply.
        Exception: What PyYAML raises for what is no YAML, or has an object's tag.
    """
    if len(body) > MAX_BYTES:
        raise ContentTooLargeError(f"{len(body)} bytes of YAML are more than {MAX_BYTES}")
    yaml = _yaml()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(body)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _weigh(yaml, node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _weigh(yaml: Any, root: Any) -> None:
    """Refuse a graph of nodes that is too large when it is written out as a tree."""
    weights: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack = [root]
    while stack:
        node = stack[-1]
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _NUMBERS and len(node.value) > MAX_NUMBER_LENGTH:
                raise ContentTooLargeError(f"A number has {len(node.value)} characters")
            weights[id(node)] = 1
            stack.pop()
            continue
        children = _children(yaml, node)
        if id(node) not in open_nodes and id(node) not in weights:
            open_nodes.add(id(node))
            for child in children:
                if id(child) in open_nodes:
                    raise ContentTooLargeError("A node of the YAML contains itself")
                if id(child) not in weights:
                    stack.append(child)
            continue
        stack.pop()
        if id(node) in open_nodes:
            open_nodes.remove(id(node))
            weights[id(node)] = 1 + sum(weights[id(child)] for child in children)
            if weights[id(node)] > MAX_NODES:
                raise ContentTooLargeError(f"The aliases make more than {MAX_NODES} nodes")


def _children(yaml: Any, node: Any) -> list[Any]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    for key, _ in node.value:
        if key.tag in _NUMBERS and len(key.value) > MAX_KEY_LENGTH:
            raise ContentTooLargeError(f"A number of {len(key.value)} characters is a key")
    return [part for pair in node.value for part in pair]


def _yaml() -> Any:
    return import_extra("yaml", "yaml", "The serializer 'yaml'")
