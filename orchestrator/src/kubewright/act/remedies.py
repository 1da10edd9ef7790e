# SPDX-License-Identifier: Apache-2.0
"""What to do about failures that users often meet, by the words of the failure.

The collection that came with this package knows them: its preflight tells the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import yaml

from kubewright.collection import collection_dir

FILE = "roles/preflight/refusals.yml"


@cache
def _known() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns and what is said, narrower ones first; none where the package is alone."""
    file = collection_dir() / FILE
    if not file.is_file():
        return ()
    return tuple(
        (re.compile(one["pattern"]), f"{one['text']} {_of_power(one)}{one['remedy']}")
        for one in yaml.safe_load(file.read_text(encoding="utf-8"))
    )


def _of_power(one: Mapping[str, Any]) -> str:
    """Who may be off, of whatever provider."""
    return "Power it on. " if one.get("powerless") else ""


def remedy(message: str) -> str:
    """Return why and what to do about a failure of these words, empty where nothing is known."""
    for pattern, words in _known():
        if match := pattern.search(message):
            return match.expand(words)
    return ""


def remedies(failures: Iterable[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Return each remedy once, with the hosts that it is for. ``failures``: host and message."""
    found: dict[str, dict[str, None]] = {}
    for host, message in failures:
        if words := remedy(message):
            found.setdefault(words, {})[host] = None
    return [(words, tuple(hosts)) for words, hosts in found.items()]
