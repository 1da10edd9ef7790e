# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters: what an option may put into a line of a node's configuration.

A line break, a quote or a backslash there would make settings of its own, in a unit for example a
command that root runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils._refusal import FilterRefusal

# Neither blanks nor what systemd, haproxy or a shell read as more than itself: systemd.syntax(7).
_WORD = re.compile(r"[A-Za-z0-9_.:,@/+=~-]+")
# What is printed: no line break, no other control character.
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")


def one_word(value: Any, option: str) -> str:
    """The text of an option's value, which has to be one word; `option` is for the message."""
    text = str(value)
    if not _WORD.fullmatch(text):
        raise FilterRefusal(
            f"{option}: {text!r} is not allowed in a configuration file. Write one word "
            "of letters, digits and _ . : , @ / + = ~ -"
        )
    return text


def one_line(value: Any, option: str) -> str:
    """The text of an option's value, which has to be one line; `option` is for the message."""
    text = str(value)
    if not _LINE.fullmatch(text):
        raise FilterRefusal(
            f"{option}: {text!r} is not allowed in a configuration file. Write it in "
            "one line, without control characters."
        )
    return text


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names as used in roles."""
        return {"one_line": one_line, "one_word": one_word}
