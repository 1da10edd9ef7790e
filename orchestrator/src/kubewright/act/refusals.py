# SPDX-License-Identifier: Apache-2.0
"""What code of ours refused in a run, which it says beside Ansible (the rules: ``agreed``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubewright.agreed import refusals

#: In a run's private directory, as long as it runs.
FILE = "refusals.jsonl"
#: The field of a task's result that has the sentence.
FIELD = "refusal"


class Refusals:
    """The refusals of a run, read as they come. Its file is made here, mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._told: list[refusals.Refusal] = []
        path.touch(mode=0o600)

    def put_in(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an event with the sentence in its result, where code of ours has refused."""
        data = raw.get("event_data") or {}
        result = data.get("res")
        if "failed" not in str(raw.get("event")) or not isinstance(result, Mapping):
            return raw
        text = self._sentence(raw["event"], data, result)
        return {**raw, "event_data": {**data, "res": {**result, FIELD: text}}} if text else raw

    def without_task(self) -> str:
        """Return what was refused where no task was: an inventory, say."""
        self._more()
        return "\n".join(dict.fromkeys(one.text for one in self._told if not one.task))

    def _sentence(self, kind: object, data: Mapping[str, Any], result: Mapping[str, Any]) -> str:
        self._more()
        of = (str(data.get("host") or ""), str(data.get("task_uuid") or ""))
        own = [one.text for one in self._told if (one.host, one.task) == of]
        if own and "item" in str(kind):
            return "; ".join(dict.fromkeys(own))
        if own:
            return own[-1]  # before it are attempts that were made again
        message = str(result.get("msg") or "")
        # A filter knows no task: but Ansible's message ends with what it said.
        return next(
            (one.text for one in self._told if not one.task and message.endswith(one.text)), ""
        )

    def _more(self) -> None:
        """Read what has come. A line is written before the result that Ansible tells of it."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = file.read().split(b"\n")
        self._read += sum(len(line) + 1 for line in lines[:-1])
        found = (refusals.Refusal.parse(line.decode(errors="replace")) for line in lines[:-1])
        self._told += [one for one in found if one is not None]
