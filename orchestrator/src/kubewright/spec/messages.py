# SPDX-License-Identifier: Apache-2.0
"""Pydantic's errors in the words of the person who wrote the file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from kubewright.spec.errors import Finding, Location
from kubewright.spec.models import LABEL, Spec, Write

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "empty",
}


def findings(error: ValidationError, raw: Mapping[Location, str]) -> list[Finding]:
    """Return what a validation error says. ``raw``: scalars as they stand in the file."""
    return [_finding(detail, raw) for detail in error.errors(include_url=False)]


def _finding(detail: ErrorDetails, raw: Mapping[Location, str]) -> Finding:
    location: Location = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return _unknown_field(location)
    field = _field(location)
    remedy = _remedy(field)
    if detail["type"] == "missing":
        return Finding(location, "is missing", remedy.replace("write", "add", 1))
    value = detail["input"]
    if (
        location == ("version",)
        and isinstance(value, int | float)
        and not isinstance(value, bool)  # which is an int
    ):
        text = raw.get(location, str(value))
        return Finding(
            location,
            f"is the number {text}; YAML drops trailing zeros",
            f'write "{text}", in quotes',
        )
    if detail["type"] == "string_too_long":
        limit = detail.get("ctx", {}).get("max_length")
        return Finding(location, f"has {len(value)} characters", f"shorten it to at most {limit}")
    return Finding(location, describe(detail), remedy)


def describe(detail: ErrorDetails) -> str:
    """Return what is wrong with a value, in words that follow the name of its field."""
    return _DESCRIPTIONS.get(detail["type"], _wrong_kind)(detail)


def _remedy(field: FieldInfo | None) -> str:
    for item in field.metadata if field else ():
        if isinstance(item, Write):
            return f"write {item.text}"
    return ""


def _unknown_field(location: Location) -> Finding:
    name = str(location[-1])
    model = _model(location[:-1])
    known = list(model.model_fields) if model else []
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    remedy = f"did you mean {near[0]}?" if near else f"the fields here are {', '.join(known)}"
    return Finding(location, "is not a known field", remedy, at_key=True)


def _model(location: Location) -> type[BaseModel] | None:
    """Return the model whose fields stand at a location."""
    model: type[BaseModel] | None = Spec
    for part in location:
        if model is None:
            return None
        if isinstance(part, str):
            field = model.model_fields.get(part)
            model = _model_in(field.annotation) if field else None
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        (found for argument in get_args(annotation) if (found := _model_in(argument))), None
    )


def _field(location: Location) -> FieldInfo | None:
    """Return the field at a location; for an item of a list, the field of the list."""
    named = location
    while named and isinstance(named[-1], int):
        named = named[:-1]
    model = _model(named[:-1]) if named else None
    return model.model_fields.get(str(named[-1])) if model else None


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}'"
    return str(value)


def _wrong_kind(detail: ErrorDetails) -> str:
    value = detail["input"]
    kind = _KINDS.get(type(value), f"a {type(value).__name__}")
    if value is None or isinstance(value, dict | list):
        return f"is {kind}"
    return f"is {kind} ({_shown(value)})"


def _not_allowed(detail: ErrorDetails) -> str:
    return f"{_shown(detail['input'])} is not allowed"


def _too_long(detail: ErrorDetails) -> str:
    limits = detail.get("ctx", {})
    return f"has {limits.get('actual_length')} entries; the maximum is {limits.get('max_length')}"


def _pattern(detail: ErrorDetails) -> str:
    if detail.get("ctx", {}).get("pattern") == LABEL:
        return f"{_shown(detail['input'])} is not a DNS label"
    return _not_allowed(detail)


_DESCRIPTIONS: Mapping[str, Callable[[ErrorDetails], str]] = {
    "greater_than_equal": _not_allowed,
    "less_than_equal": _not_allowed,
    "literal_error": _not_allowed,
    "string_pattern_mismatch": _pattern,
    "too_long": _too_long,
    "string_too_short": lambda _: "is empty",
}
