# SPDX-License-Identifier: Apache-2.0
"""What the kubelet's configuration has, and of what kind each field is.

A kubelet that finds another field, or a value of another kind, ends. The fields of each minor are
data, one file a minor, which ``tools/kubelet_fields.py`` writes from upstream's Go module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

#: A duration as Go's time.ParseDuration reads it; the kubelet takes no bare number for one.
_GO_DURATION = r"^[+-]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"
#: A taint is written as a label is, and a kubelet with another one never registers (Kubernetes,
#: "Labels and Selectors", and validation.go, ValidateTaint).
_LABEL = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE = f"^({_LABEL})?$"
_LABEL_NAME = f"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_LABEL}$"


@dataclass(frozen=True)
class Kind:
    """A kind of value. ``words``: what a person should write, after "write"."""

    type: Any
    words: str

    def adapter(self) -> TypeAdapter[Any]:
        """Return what checks a value, without bending it into shape."""
        return TypeAdapter(self.type, config=ConfigDict(strict=True))


_SWITCH = Kind(bool, "true or false")
_NUMBER = Kind(int, "a whole number")
_FRACTION = Kind(float, "a number, such as 0.9")
_TEXT = Kind(str, "a string in quotes")
_DURATION = Kind(
    Annotated[str, Field(pattern=_GO_DURATION)], "a duration with its unit, such as 30s or 1h15m"
)
_TEXTS = Kind(list[str], "a list of strings")
_NUMBERS = Kind(list[int], "a list of whole numbers")
_TEXT_BY_NAME = Kind(dict[str, str], 'a mapping of names to strings in quotes, such as {cpu: "1"}')
_SWITCH_BY_NAME = Kind(
    dict[str, bool], "a mapping of names to true or false, such as {ImageVolume: true}"
)
_TEXTS_BY_NAME = Kind(dict[str, list[str]], "a mapping of names to lists of strings")
_MAPPING = Kind(dict[str, Any], "a mapping of fields")
_MAPPINGS = Kind(list[dict[str, Any]], "a list of mappings")


class _Taint(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    key: Annotated[str, Field(pattern=_LABEL_NAME, max_length=253 + 1 + 63)]
    value: NotRequired[Annotated[str, Field(pattern=_LABEL_VALUE)]]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


_TAINTS = Kind(
    list[_Taint], "a list of taints, such as [{key: dedicated, value: gpu, effect: NoSchedule}]"
)
#: What is known better than the words of ``tools/kubelet_fields.py`` say it.
_OWN_KINDS: Mapping[str, Kind] = {"registerWithTaints": _TAINTS}
#: By the words of ``tools/kubelet_fields.py``.
_KINDS: Mapping[str, Kind] = {
    "bool": _SWITCH,
    "int": _NUMBER,
    "float": _FRACTION,
    "string": _TEXT,
    "duration": _DURATION,
    "[]string": _TEXTS,
    "[]int": _NUMBERS,
    "map[string]string": _TEXT_BY_NAME,
    "map[string]bool": _SWITCH_BY_NAME,
    "map[string][]string": _TEXTS_BY_NAME,
    "struct": _MAPPING,
    "[]struct": _MAPPINGS,
}


def minors() -> list[str]:
    """Return the minors of Kubernetes that are known, oldest first: ``["1.36", "1.37"]``."""
    names = (path.name for path in resources.files(__name__).iterdir())
    found = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted(found, key=lambda minor: [int(part) for part in minor.split(".")])


@cache
def fields(minor: str) -> Mapping[str, Kind]:
    """Return the kind of each field of a minor that is known, by its name."""
    text = (resources.files(__name__) / f"{minor}.json").read_text("utf-8")
    return {name: _OWN_KINDS.get(name, _KINDS[kind]) for name, kind in json.loads(text).items()}
