# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Of which make a kept state is: one number for all that a directory has.

The state of a cluster on the controller, and ``/var/lib/kubewright`` on a node, say so in a file of
their own, with the Kubewright that began to write that make::

    {"schema": 1, "kubewright": "0.1.0"}

A state without it is of schema 0. Who changes what is kept there adds to `CLUSTER` or `NODE` what
makes the new make of the one before, and the number goes up by one. An older Kubewright refuses
such a state before it touches anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.release import VERSION

FILE = "schema.json"


@dataclass(frozen=True)
class Make:
    """What one kind of state can be. `name`: for messages; `mode`: of the file.

    `migrations`: the first makes schema 1 of schema 0, and so on. Each gets the directory, and may
    be repeated from any point at which it was killed.
    """

    name: str
    mode: int
    migrations: tuple[Callable[[Path], None], ...]

    @property
    def newest(self) -> int:
        """The schema that this Kubewright writes."""
        return len(self.migrations)

    def require(self, directory: Path) -> int:
        """The schema of what is in a directory. Raises `KubewrightError` when it is a newer one."""
        path = directory / FILE
        try:
            data = json.loads(path.read_bytes())
            schema, writer = data["schema"], str(data["kubewright"])
            if type(schema) is not int or schema < 0:
                raise ValueError(f"schema {schema!r}")
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            mine = json.dumps({"schema": self.newest, "kubewright": VERSION})
            raise KubewrightError(
                f"{path} is damaged ({type(error).__name__}: {error}). It records which Kubewright "
                f"can use {self.name}. Nothing was changed. Restore it from a backup; or, if "
                f"no version newer than {VERSION} was used here, write {mine} into it."
            ) from error
        if schema > self.newest:
            raise KubewrightError(
                f"{directory}, {self.name}, has schema {schema}, but this Kubewright {VERSION} "
                f"only supports schema {self.newest}. Nothing was changed. Use Kubewright {writer} "
                "or newer."
            )
        return schema

    def bring_up(self, directory: Path) -> None:
        """Make what is in a directory that is there of the newest schema, under the caller's lock.

        What was killed is repaired by the next call. Raises `KubewrightError` as `require` does.
        """
        for schema in range(self.require(directory), self.newest):
            self.migrations[schema](directory)
            text = json.dumps({"schema": schema + 1, "kubewright": VERSION}) + "\n"
            atomic.write_file(directory / FILE, text.encode(), mode=self.mode)


def _as_it_is(_directory: Path) -> None:
    """Schema 1 is what was written before there were numbers."""


CLUSTER = Make("the state of a cluster", 0o600, (_as_it_is,))
NODE = Make("what Kubewright keeps on a node", 0o644, (_as_it_is,))
