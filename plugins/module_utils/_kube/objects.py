# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether objects of the API are as they were applied.

What is desired says only some fields of an object; the API server and its controllers fill in the
rest. So an object is up to date when all that is desired is found in it.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube.client import Api

#: What tells the entries of a list apart that the API merges (its "patchMergeKey").
MERGE_KEYS = ("mountPath", "containerPort", "name")


def reasons(api: Api, desired: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with each of the *desired* objects, in words; empty when nothing is."""
    resources: dict[str, dict[str, tuple[str, bool]]] = {}
    found = []
    for item in desired:
        label = _label(item)
        version = str(item["apiVersion"])
        if version not in resources:
            resources[version] = discover(api, version)
        if item["kind"] not in resources[version]:
            found.append(f"{label}: the API has no {version} {item['kind']}")
            continue
        live = api.get(path_of(item, *resources[version][item["kind"]]))
        if live is None:
            found.append(f"{label} is missing")
        elif fields := differing(item, live):
            found.append(f"{label} differs in {', '.join(fields)}")
    return found


def _label(item: Mapping[str, Any]) -> str:
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not (name and item.get("kind") and item.get("apiVersion")):
        raise KubewrightError(
            f"An object has no apiVersion, kind or metadata.name: {str(dict(item))[:100]}. All "
            "three are required."
        )
    return f"{item['kind']} {name}"


def discover(api: Api, version: str) -> dict[str, tuple[str, bool]]:
    """Resource name, and whether it lies in a namespace, by kind, of an apiVersion."""
    document = api.get(_root(version)) or {}
    return {
        entry["kind"]: (entry["name"], bool(entry["namespaced"]))
        for entry in document.get("resources", [])
        if "/" not in entry["name"]
    }


def path_of(item: Mapping[str, Any], resource: str, namespaced: bool) -> str:
    """The path of an object."""
    metadata = item["metadata"]
    namespace = f"/namespaces/{metadata.get('namespace') or 'default'}" if namespaced else ""
    name = urllib.parse.quote(str(metadata["name"]), safe="")
    return f"{_root(str(item['apiVersion']))}{namespace}/{resource}/{name}"


def differing(desired: Any, live: Any, path: str = "") -> list[str]:
    """Paths of the fields in *desired* that *live* lacks or has otherwise."""
    if live is None and not desired:
        return []  # the API leaves out what is empty, 0 or false
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return [path or "."]
        found = []
        for key, value in desired.items():
            found += differing(value, live.get(key), f"{path}.{key}")
        return found
    if isinstance(desired, list | tuple):
        return _differing_list(desired, live if isinstance(live, list) else [], path)
    return [] if desired == live else [path]


def _differing_list(desired: Sequence[Any], live: Sequence[Any], path: str) -> list[str]:
    key = _merge_key(desired)
    if key is None:
        if len(desired) != len(live):
            return [path]
        pairs = list(enumerate(zip(desired, live, strict=True)))
        return [
            text
            for number, (one, other) in pairs
            for text in differing(one, other, f"{path}[{number}]")
        ]
    found: list[str] = []
    for entry in desired:
        place = f"{path}[{entry[key]}]"
        # Not always one: a port has the same number for TCP and for UDP.
        same = [one for one in live if isinstance(one, Mapping) and one.get(key) == entry[key]]
        closest = sorted(
            (differing(entry, one, place) for one in same), key=lambda texts: len(texts)
        )
        found += closest[0] if closest else [place]
    return found


def _merge_key(entries: Sequence[Any]) -> str | None:
    """The field by which the entries of a list are told apart, None where they have none."""
    for key in MERGE_KEYS:
        if entries and all(isinstance(entry, Mapping) and key in entry for entry in entries):
            values = [str(entry[key]) for entry in entries]
            if len(set(values)) == len(values):
                return key
    return None


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
