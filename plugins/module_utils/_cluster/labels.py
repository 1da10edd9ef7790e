# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What can be a label of a Node. No I/O.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/, "Syntax and
character set". The kubelet does not start with any other, and a comma in one begins the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

MAX = 63
MAX_PREFIX = 253
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
WRITE = "at most 63 letters, digits and - _ . that start and end with a letter or digit"


def is_value(text: Any) -> bool:
    """Whether it can be a label's value; empty is one."""
    return isinstance(text, str) and len(text) <= MAX and bool(VALUE.fullmatch(text))


def is_name(text: Any) -> bool:
    """Whether it can be a label's name: ``zone`` or ``example.com/zone``."""
    if not isinstance(text, str):
        return False
    prefix, slash, name = text.rpartition("/")
    if slash and not (len(prefix) <= MAX_PREFIX and _DOMAIN.fullmatch(prefix)):
        return False
    return bool(name) and is_value(name)


def check(labels: Mapping[str, Any]) -> None:
    """Raise a KubewrightError that names every label that a Node can't have."""
    wrong = [f"{name!r} is not a valid label name" for name in labels if not is_name(name)]
    wrong += [
        f"{value!r} can't be the value of {name}"
        for name, value in labels.items()
        if not is_value(value)
    ]
    if wrong:
        raise KubewrightError(f"labels: {'; '.join(wrong)}. Write {WRITE}.")
