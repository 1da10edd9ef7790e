# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What is remembered of machines that may leave, beside what their providers list.

roster.json, schema 1::

    {"schema": 1, "cluster": "demo",
     "own": [{"name": "delta", "address": "192.0.2.21", "port": 22, "user": "root",
              "private_key_file": "", "host_keys": ["ssh-ed25519 AAAA..."], "pool": "web",
              "role": "worker"}],
     "named": ["demo-web-2"], "chosen": ["demo-web-3"]}

``own``: how to reach a machine of one's own. cluster.yml alone says that, and says nothing any more
when the machine is taken out of it. ``named``: who goes first where a pool has more machines than
its size, because a user named it; ``chosen``: because it was in the worst state.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import atomic
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import inventory, state

SCHEMA = 1


@dataclass(frozen=True)
class Own:
    """How to reach a machine of one's own, and what its node is. `pool`: "" on control planes."""

    name: str
    address: str
    port: int
    user: str
    private_key_file: str
    host_keys: tuple[str, ...]
    pool: str
    role: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Own:
        """From an entry of the file, or of `cluster_inventory`. Raises ValueError."""
        kinds: dict[str, type] = {"port": int, "host_keys": list}
        values = {field.name: entry.get(field.name) for field in fields(cls)}
        wrong = [
            name for name, value in values.items() if not isinstance(value, kinds.get(name, str))
        ]
        if wrong:
            raise ValueError(f"{entry.get('name')!r} has no {wrong[0]}, or one of the wrong type")
        return cls(**{**values, "host_keys": tuple(map(str, values["host_keys"] or ()))})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kept:
    """See the module."""

    own: tuple[Own, ...] = ()
    named: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    def text(self, cluster: str) -> str:
        """The file's text."""
        document = {
            "schema": SCHEMA,
            "cluster": cluster,
            "own": [asdict(one) for one in self.own],
            "named": list(self.named),
            "chosen": list(self.chosen),
        }
        return json.dumps(document, indent=1) + "\n"

    def listed(self, told: Sequence[Own], machines: Sequence[Mapping[str, Any]]) -> Kept:
        """What is kept when the providers have listed *machines*.

        *told*: what the inventory says of one's own. Of those that it does not name any more, the
        earlier record stays for as long as they are listed. Host keys are those of the listing.
        """
        keys = {
            one["name"]: tuple(one["host_keys"])
            for one in machines
            if one["provider"] == inventory.STATIC
        }
        records = {one.name: one for one in (*self.own, *told) if one.name in keys}
        names = {one["name"] for one in machines}
        return Kept(
            tuple(
                replace(one, host_keys=keys[name] or one.host_keys)
                for name, one in sorted(records.items())
            ),
            tuple(name for name in self.named if name in names),
            tuple(name for name in self.chosen if name in names),
        )

    def without(self, names: Collection[str]) -> Kept:
        """What is kept when these machines have gone."""
        return Kept(
            tuple(one for one in self.own if one.name not in names),
            tuple(name for name in self.named if name not in names),
            tuple(name for name in self.chosen if name not in names),
        )


def parse(text: str, cluster: str) -> Kept:
    """What a file's text says. Raises ValueError with what is wrong with it."""
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"it does not have schema {SCHEMA}")
    if document.get("cluster") != cluster:
        raise ValueError(
            f"it belongs to the cluster {document.get('cluster')!r}, not to {cluster!r}"
        )
    own, named, chosen = (document.get(key) for key in ("own", "named", "chosen"))
    if not (isinstance(own, list) and all(isinstance(one, dict) for one in own)):
        raise ValueError("own is not a list of machines")
    return Kept(tuple(map(Own.of, own)), _names(named), _names(chosen))


def read(directory: Path, cluster: str) -> Kept:
    """What a state directory has; nothing where there is no file. Raises ValueError, OSError."""
    try:
        return parse((directory / state.ROSTER).read_text("utf-8"), cluster)
    except FileNotFoundError:
        return Kept()


def write(directory: Path, cluster: str, kept: Kept) -> None:
    """Keep it. The caller has the state's lock."""
    atomic.write_file(directory / state.ROSTER, kept.text(cluster).encode(), mode=0o600)


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{values!r} is not a list of names")
    return tuple(values)
