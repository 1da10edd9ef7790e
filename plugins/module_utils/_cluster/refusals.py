# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What code of ours refuses in Ansible's processes, as data for who started Ansible.

Ansible hides what is said of a task with ``no_log``, though a refusal holds no secret, and puts
words of its own around what a filter says. So each refusal is a line of a file as well, one JSON
object with the fields of `Refusal`, where the command has named one in the environment.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

VARIABLE = "KUBEWRIGHT_REFUSALS"


@dataclass(frozen=True)
class Refusal:
    """A sentence for a user. `host` and `task` (its id in Ansible) are empty where nobody knows."""

    text: str
    host: str = ""
    task: str = ""

    @classmethod
    def parse(cls, line: str) -> Refusal | None:
        """From a line of the file; None for one that was cut."""
        try:
            data: Any = json.loads(line)
            return cls(str(data["text"]), str(data["host"]), str(data["task"]))
        except (ValueError, KeyError, TypeError):
            return None


def tell(refusal: Refusal) -> None:
    """Add it to the file, if there is one. Several processes may do so at once."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return  # the run has ended, or its disk is full: Ansible's own words are left
    try:
        os.write(fd, json.dumps(asdict(refusal)).encode() + b"\n")
    except OSError:
        return
    finally:
        os.close(fd)
