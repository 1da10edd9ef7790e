# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: templates that are compiled once in a process, cheap to render.

Ansible compiles each template for each host and task, and shows every template all variables.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleUndefinedVariable
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from jinja2 import Template, TemplateError

#: With these a template may reach variables that it does not name.
ANY = frozenset({"lookup", "q", "query", "vars"})
_REFERENCE = re.compile(r"\{\{ (\w+) \}\}")
_PLAIN = (str, int, float, list, dict)
_NOT_GIVEN = object()


@dataclass(frozen=True)
class Hole:
    """Where the value of a template belongs; *number*: which one."""

    number: int


def take_apart(value: Any, found: list[str]) -> Any:
    """*value* with a `Hole` for each template, which is added to *found*."""
    if isinstance(value, str):
        if not _is_template(value):
            return str(value)
        found.append(value)
        return Hole(len(found) - 1)
    if isinstance(value, Mapping):
        return {str(key): take_apart(one, found) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [take_apart(one, found) for one in value]
    return value


def put_together(parts: Any, values: Sequence[Any]) -> Any:
    """What `take_apart` gave, with its templates' *values*."""
    if isinstance(parts, Hole):
        return values[parts.number]
    if isinstance(parts, dict):
        return {key: put_together(one, values) for key, one in parts.items()}
    if isinstance(parts, list):
        return [put_together(one, values) for one in parts]
    return parts


def templates(value: Any) -> Iterator[str]:
    """All texts in *value* that look like templates. Other hosts' variables are not looked at."""
    if isinstance(value, str):
        if _is_template(value):
            yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from templates(one)
    elif isinstance(value, list):
        for one in value:
            yield from templates(one)


@functools.cache
def names(text: str) -> frozenset[str]:
    """The words of a template: all variables that it names are among them."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


def needed(texts: Iterable[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Those of *variables* that templates may use, also by way of others."""
    left = {name for text in texts for name in names(text)}
    seen: set[str] = set()
    while left:
        if left & ANY:
            return dict(variables)
        seen |= left
        reached = (variables[name] for name in left if name in variables)
        left = {name for one in reached for text in templates(one) for name in names(text)} - seen
    return {name: variables[name] for name in seen if name in variables}


class Compiled:
    """Renders templates with what was compiled before, in this process or before it was forked.

    Jinja's environments share code likewise by its bytecode cache, which needs files. Ansible has
    no public way to its environment yet.
    """

    def __init__(self) -> None:
        self._loader = DataLoader()
        self._templar = Templar(self._loader)
        self._kept: dict[str, Template] = {}
        environment = self._templar._engine.environment
        self._compile, environment.from_string = environment.from_string, self._from_string

    def compile(self, texts: Iterable[str]) -> None:
        """Compile templates beforehand."""
        for text in texts:
            try:
                self._from_string(text)
            except TemplateError:  # whoever renders it is told, with where it is
                continue

    def render(
        self, texts: Sequence[str], shared: Iterable[str], variables: Mapping[str, Any], where: str
    ) -> list[Any]:
        """The values of templates.

        *shared*: names of variables to render once. *where*: the directory of relative paths.
        """
        self._loader.set_basedir(where)
        known = needed([*texts, *shared], variables)
        self._templar.available_variables = known
        for name in shared:
            if name in known and any(templates(known[name])):
                try:
                    value = self._templar.template(known[name])
                except AnsibleUndefinedVariable:
                    continue  # a template may have a default for it
                known[name] = value
                self._templar.available_variables = known
        found = [_given(text, known) for text in texts]
        asked = [number for number, one in enumerate(found) if one is _NOT_GIVEN]
        values = self._templar.template([texts[number] for number in asked])
        for number, value in zip(asked, values, strict=True):
            found[number] = value
        return found

    def _from_string(self, source: Any, *arguments: Any, **more: Any) -> Any:
        if arguments or more or not isinstance(source, str):
            return self._compile(source, *arguments, **more)
        if source not in self._kept:
            self._kept[source] = self._compile(source)
        return self._kept[source]


def _given(text: str, known: Mapping[str, Any]) -> Any:
    """What a mere reference stands for, where that is no template; else `_NOT_GIVEN`."""
    reference = _REFERENCE.fullmatch(text)
    value = known.get(reference[1], _NOT_GIVEN) if reference else _NOT_GIVEN
    holes: list[str] = []
    plain = take_apart(value, holes) if isinstance(value, _PLAIN) else _NOT_GIVEN
    return _NOT_GIVEN if holes else plain


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text
