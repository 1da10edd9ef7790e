# SPDX-License-Identifier: Apache-2.0
"""YAML text to plain data, with the line and column of every key and value.

PyYAML's own loader keeps the last of two equal keys and forgets positions; a person needs both.
And some lines of aliases of aliases would take all memory: see the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from kubewright.spec.errors import Location

_MERGE = "tag:yaml.org,2002:merge"

#: How deep values stand in each other; the fields of cluster.yml need 4, a kubelet's some more.
MAX_DEPTH = 32
#: How many values aliases may repeat, all together.
MAX_REPEATED = 10_000


@dataclass(frozen=True)
class Mark:
    """A place in the text, counted from 1."""

    line: int
    column: int


@dataclass
class Document:
    """``data``: dict, list, str, int, float, bool, None or date; ``raw``: each scalar's text."""

    data: Any = None
    keys: dict[Location, Mark] = field(default_factory=dict)
    values: dict[Location, Mark] = field(default_factory=dict)
    raw: dict[Location, str] = field(default_factory=dict)

    def mark(self, location: Location, *, at_key: bool = False) -> Mark:
        """Return where a location is, or the nearest one around it that the text has."""
        where = location
        while where:
            if at_key and where in self.keys:
                return self.keys[where]
            if where in self.values:
                return self.values[where]
            where = where[:-1]
        return self.values.get((), Mark(1, 1))


@dataclass(frozen=True)
class Duplicate:
    """A key that its mapping has already had, on line ``first_line``."""

    location: Location
    mark: Mark
    first_line: int


class SyntaxProblem(Exception):
    """The text is not YAML, or not one document of plain values. Carries its mark."""

    def __init__(self, mark: Mark, message: str, remedy: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message
        self.remedy = remedy


def parse(text: str) -> tuple[Document, list[Duplicate]]:
    """Return the document (``data`` is None when the text is empty) and the keys that it has twice.

    :raises SyntaxProblem: not YAML, several documents, a value of a kind that no field has, or
        more of them than the bounds allow.
    """
    try:
        loader = _Loader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"has the character U+{ord(text[error.position]):04X}, which YAML does not allow"
        raise SyntaxProblem(Mark(line, 1), message, "remove it") from error
    try:
        root = loader.get_single_node()
        reader = _Reader(loader)
        if root is not None:
            reader.document.data = reader.read(root, ())
    except yaml.MarkedYAMLError as error:
        raise _syntax_problem(error) from error
    finally:
        loader.dispose()
    return reader.document, reader.duplicates


def _syntax_problem(error: yaml.MarkedYAMLError) -> SyntaxProblem:
    mark = error.problem_mark or error.context_mark
    where = _place(mark) if mark else Mark(1, 1)
    if error.context == "expected a single document in the stream":
        return SyntaxProblem(where, "a second document starts here", "keep one document per file")
    problem = error.problem or "can't be read"
    context = f" ({error.context})" if error.context else ""
    if isinstance(error, ConstructorError):
        return SyntaxProblem(where, problem, "write a plain value")
    remedy = "check indentation, quotes and brackets here and on the line above"
    if "'\\t'" in problem:
        remedy = "indent with spaces, not with tabs"
    return SyntaxProblem(where, f"is not YAML: {problem}{context}", remedy)


class _Loader(yaml.SafeLoader):
    """Composes the node tree within the bounds; raises :class:`SyntaxProblem` beyond them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._repeated = 0
        #: By id of a node, how many there are in it with all that aliases repeat.
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        where = _place(event.start_mark)
        if self._depth > MAX_DEPTH:
            raise SyntaxProblem(
                where,
                f"is nested more than {MAX_DEPTH} levels deep",
                "reduce the nesting",
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, AliasEvent):
            self._repeated += self._sizes.get(id(node), 1)
            if self._repeated > MAX_REPEATED:
                raise SyntaxProblem(
                    where,
                    f"with the alias *{event.anchor}, aliases repeat more than "
                    f"{MAX_REPEATED:,} values",
                    "write the values without nested aliases",
                )
        else:
            self._sizes[id(node)] = 1 + sum(self._sizes.get(id(one), 1) for one in _inner(node))
        return node


def _inner(node: Node | None) -> list[Node]:
    if isinstance(node, MappingNode):
        return [one for pair in node.value for one in pair]
    return node.value if isinstance(node, SequenceNode) else []


class _Reader:
    """Walks the node tree once, and remembers where each thing stood."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.loader = loader
        self.document = Document()
        self.duplicates: list[Duplicate] = []
        self._open: set[int] = set()

    def read(self, node: Node, location: Location) -> Any:
        self.document.values[location] = _mark(node)
        if id(node) in self._open:
            raise ConstructorError(None, None, "an alias that contains itself", node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, location)
            if isinstance(node, SequenceNode):
                return [self.read(child, (*location, i)) for i, child in enumerate(node.value)]
            self.document.raw[location] = node.value
            return self._scalar(node)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: Node) -> Any:
        try:
            return self.loader.construct_object(node)
        except ValueError as error:  # for example the date 2026-02-31
            raise ConstructorError(None, None, str(error), node.start_mark) from error

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, Any]:
        self._find_duplicates(node, location)
        self.loader.flatten_mapping(node)  # puts what "<<" brings first, so that own keys win
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node)
            if not isinstance(key, str):
                raise ConstructorError(
                    None, None, f"the key {key!r} is not text", key_node.start_mark
                )
            self.document.keys[(*location, key)] = _mark(key_node)
            result[key] = self.read(value_node, (*location, key))
        return result

    def _find_duplicates(self, node: MappingNode, location: Location) -> None:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag == _MERGE:
                continue
            if key_node.value in seen:
                where = (*location, key_node.value)
                self.duplicates.append(Duplicate(where, _mark(key_node), seen[key_node.value]))
            else:
                seen[key_node.value] = key_node.start_mark.line + 1


def _mark(node: Node) -> Mark:
    return _place(node.start_mark)


def _place(mark: yaml.Mark) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)
