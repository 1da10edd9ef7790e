# SPDX-License-Identifier: Apache-2.0
"""Text that leaves a file behind where it is taken for a template, at each place for text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Place = tuple[str | int, ...]
Schema = Mapping[str, Any]


def canary(marker: Path) -> str:
    """A template of Ansible that makes the file *marker*."""
    return "{{ lookup('ansible.builtin.pipe', 'touch " + str(marker) + "') }}"


def texts(schema: Schema, whole: Schema, at: Place = ()) -> Iterator[Place]:
    """Each place in a document of a JSON Schema where text may stand, nested ones too.

    Of a list it is the first item; of a mapping with any keys it is below "any". *whole*: what
    references look in.
    """
    if reference := schema.get("$ref"):
        yield from texts(whole["$defs"][reference.rsplit("/", 1)[1]], whole, at)
    for kind in schema.get("anyOf", ()):
        yield from texts(kind, whole, at)
    if schema.get("type") == "string" or "const" in schema or "enum" in schema:
        yield at
    for name, inner in schema.get("properties", {}).items():
        yield from texts(inner, whole, (*at, name))
    if isinstance(inner := schema.get("items"), Mapping):
        yield from texts(inner, whole, (*at, 0))
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        yield from texts(more, whole, (*at, "any"))
    if more is True:  # of values nothing is said: a text may stand at any depth
        yield from ((*at, "any"), (*at, "any", 0, "any"))


def put(document: Any, place: Place, value: Any) -> Any:
    """A copy of *document* with *value* at a place; what is missing on the way there is made."""
    if not place:
        return value
    first, *rest = place
    if isinstance(first, int):
        old = list(document or [None])
        return [put(old[first], tuple(rest), value), *old[1:]]
    old = document if isinstance(document, Mapping) else {}
    return {**old, first: put(old.get(first), tuple(rest), value)}


def at(document: Any, place: Place) -> Any:
    """What stands at a place."""
    for part in place:
        document = document[part]
    return document
