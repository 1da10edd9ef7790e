# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What machines.json and known_hosts may say. No I/O.

machines.json, schema 1::

    {"schema": 1, "cluster": "demo", "written_at": "2030-01-31T12:00:00+00:00", "machines": [
      {"id": "local://demo/demo-cp-1", "name": "demo-cp-1", "address": "192.0.2.11",
       "host_keys": ["ssh-ed25519 AAAA..."], "provider": "local", "region": "local",
       "zone": "local-1", "node_type": "container", "power": "on"}]}

A machine without host keys is one that its provider has not finished: nobody can log in to it.
One whose key is signed has "@cert-authority NAME ssh-ed25519 AAAA..." among them: the key of who
signs, and a name that the machine's certificate is for.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import labels, names

SCHEMA = 1
# They become labels of the Node.
LABELS = ("region", "zone", "node_type")
POWER = ("on", "off")
# What kubelet takes as --provider-id: <provider>://<the provider's own name of it>. kubeadm writes
# it into a file of variables, where quotes and blanks would end it.
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*://[A-Za-z0-9_.:@/+=~-]+")
AUTHORITY = "@cert-authority"
# A name or an address, no pattern: it is the one that ssh looks for in the certificate.
CERTIFIED_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
KEY_TYPES = re.compile(r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-\S+@openssh\.com")


@dataclass(frozen=True)
class Machine:
    """One machine as its provider describes it; the fields are those of the file.

    `id` is the provider's own: it becomes the kubelet's ``--provider-id``. `host_keys` are public
    keys of SSH.
    """

    id: str
    name: str
    address: str
    host_keys: tuple[str, ...]
    provider: str
    region: str
    zone: str
    node_type: str
    power: str

    def as_dict(self) -> dict[str, Any]:
        """The entry as it stands in the file."""
        return {**asdict(self), "host_keys": list(self.host_keys)}


@dataclass(frozen=True)
class Listing:
    """What the file says: when it was written, and entries as they stand there."""

    written_at: datetime
    machines: list[Any]


FIELDS = frozenset(field.name for field in fields(Machine))
TEXT_FIELDS = tuple(sorted(FIELDS - {"host_keys"}))


def validated(machines: Sequence[Any]) -> list[dict[str, Any]]:
    """The machines sorted by name. KubewrightError names every entry that breaks a rule."""
    problems = [
        f"machine {_label(machine, number)}: {problem}"
        for number, machine in enumerate(machines, start=1)
        for problem in _problems(machine)
    ]
    problems += _duplicates([machine for machine in machines if isinstance(machine, Mapping)])
    if problems:
        raise KubewrightError(
            "The providers' list of machines is not usable: " + "; ".join(problems) + "."
        )
    return sorted((dict(machine) for machine in machines), key=lambda machine: machine["name"])


def machines_json(cluster: str, written_at: str, machines: Sequence[Mapping[str, Any]]) -> str:
    """The file's text. `written_at` is RFC 3339; `machines` have been validated."""
    document = {
        "schema": SCHEMA,
        "cluster": cluster,
        "written_at": written_at,
        "machines": list(machines),
    }
    return json.dumps(document, indent=2) + "\n"


def parse(text: str, cluster: str) -> Listing:
    """What a file's text says. Raises ValueError with what is wrong with it."""
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"it does not have schema {SCHEMA}")
    if document.get("cluster") != cluster:
        raise ValueError(
            f"it belongs to the cluster {document.get('cluster')!r}, not to {cluster!r}"
        )
    written, machines = document.get("written_at"), document.get("machines")
    if not isinstance(written, str) or not isinstance(machines, list):
        raise ValueError("it lacks written_at or machines")
    return Listing(datetime.fromisoformat(written), machines)


def machine(entry: Any) -> Machine:
    """An entry of the file, whose rules were looked at when it was written.

    Raises ValueError when a field is missing, or of another kind.
    """
    if not isinstance(entry, Mapping):
        raise ValueError("a machine is not a mapping")
    missing = sorted(FIELDS - set(entry))
    if missing:
        raise ValueError(f"machine {entry.get('name')!r} has no {missing[0]}")
    keys = entry["host_keys"]
    texts = [entry[name] for name in TEXT_FIELDS]
    if not isinstance(keys, list) or not all(isinstance(value, str) for value in (*keys, *texts)):
        raise ValueError(f"machine {entry['name']!r} has a field of the wrong type")
    return Machine(**{name: entry[name] for name in TEXT_FIELDS}, host_keys=tuple(keys))


def known_hosts(machines: Sequence[Mapping[str, Any]]) -> str:
    """Lines of ssh's known_hosts, sshd(8): each key of each machine under all its names."""
    lines = []
    for machine in machines:
        split = [key.split() for key in machine["host_keys"]]
        certified = [words[1] for words in split if words[0] == AUTHORITY]
        names = ",".join(dict.fromkeys((machine["name"], machine["address"], *certified)))
        for words in split:
            named = words if words[0] == AUTHORITY else [names, *words]
            lines.append(" ".join(named) + "\n")
    return "".join(lines)


def _label(machine: Any, number: int) -> str:
    name = machine.get("name") if isinstance(machine, Mapping) else None
    return name if isinstance(name, str) and name else f"number {number}"


def _problems(machine: Any) -> list[str]:
    if not isinstance(machine, Mapping):
        return ["is not a mapping"]
    missing = sorted(FIELDS - set(machine))
    unknown = sorted(str(key) for key in set(machine) - FIELDS)
    problems = [f"has no {field}" for field in missing]
    problems += [f"has an unknown field {field}" for field in unknown]
    empty = [
        field
        for field in TEXT_FIELDS
        if field in machine and not (isinstance(machine[field], str) and machine[field])
    ]
    problems += [f"{field} is not a string, or is empty" for field in empty]
    label = (labels.is_value, f"can't be a label of its Node: write {labels.WRITE}")
    rules: dict[str, tuple[Callable[[Any], object], str]] = {
        "id": (ID.fullmatch, "is not <provider>://<id>"),
        "name": (names.is_label, "is not a DNS label"),
        "address": (_is_address, "is not an IP address"),
        "provider": (names.is_label, "is not a DNS label"),
        "power": (POWER.__contains__, "is neither on nor off"),
        **dict.fromkeys(LABELS, label),
    }
    for field, (rule, text) in rules.items():
        if field in machine and field not in empty and not rule(machine[field]):
            problems.append(f"{field} {machine[field]!r} {text}")
    keys = machine.get("host_keys", [])
    if not isinstance(keys, Sequence) or isinstance(keys, str):
        return [*problems, "host_keys is not a list"]
    return [
        *problems,
        *(f"host key {key!r} is not a valid SSH key" for key in keys if not is_host_key(key)),
    ]


def _duplicates(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    problems = []
    for field in ("id", "name", "address"):
        values = [str(machine[field]) for machine in machines if field in machine]
        twice = sorted({value for value in values if values.count(value) > 1})
        problems += [f"two machines have the same {field} {value}" for value in twice]
    return problems


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_host_key(text: Any) -> bool:
    """Whether it is a key, or that of an authority with the name in the machine's certificate."""
    if not isinstance(text, str) or not text.startswith(f"{AUTHORITY} "):
        return is_key(text)
    name, _, key = text.removeprefix(f"{AUTHORITY} ").partition(" ")
    return bool(CERTIFIED_NAME.fullmatch(name)) and is_key(key)


def is_key(text: Any) -> bool:
    """Whether it is a public key as ssh writes it, "type base64": no comment, no line break.

    In the key's own bytes are its type and what the type needs, each after its length in four
    bytes: RFC 4253, section 6.6.
    """
    if not isinstance(text, str) or len(words := text.split(" ")) != 2:
        return False
    if not KEY_TYPES.fullmatch(words[0]):
        return False
    try:
        data = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return False
    parts = []
    while data:
        length = int.from_bytes(data[:4], "big")
        parts.append(data[4 : 4 + length])
        if len(data) < 4 + length:
            return False
        data = data[4 + length :]
    return len(parts) > 1 and parts[0] == words[0].encode()
