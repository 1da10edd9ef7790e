# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Filters: whether nodes may be reset, and who takes them out of their cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils._refusal import FilterRefusal

State = Mapping[str, Any]


def states(results: Sequence[Mapping[str, Any]]) -> dict[str, State]:
    """What `node_state` returned, by name, of a loop over names that was registered."""
    return {str(result["item"]): result for result in results}


def acting(rest: Mapping[str, State]) -> str:
    """The first by name of the control planes in `rest` that acts for its cluster, or ""."""
    able = [
        name
        for name, state in rest.items()
        if _phase(state) == "joined"
        and state["membership"]["role"] == "control_plane"
        and state.get("api_ready")
    ]
    return min(able, default="")


def identity(text: str, path: str, cluster_name: str) -> str:
    """The cluster's id in its identity: `text` is what the file `path` has."""
    try:
        known = json.loads(text)
    except ValueError as error:
        wrong = f"it is not JSON ({error})"
    else:
        found = known.get("cluster_id") if isinstance(known, dict) else None
        if found and isinstance(found, str):
            return found
        wrong = "it has no cluster_id"
    raise FilterRefusal(
        f"{path} is damaged: {wrong}. No node was changed. Restore it from a backup. If "
        "there is none, move it away and run it again: nodes are then reset whichever "
        f"cluster they are in, since nothing records any more which cluster is {cluster_name}."
    )


def done(hostvars: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Those of `names` that this run has reset."""
    return [name for name in names if hostvars[name].get("kubewright_was_reset")]


def reset_plan(
    targets: Mapping[str, State],
    rest: Mapping[str, State],
    confirmed: str,
    cluster_name: str,
    cluster_id: str = "",
) -> dict[str, Any]:
    """Who takes `targets` out of their cluster (`actor`, "" for nobody), and whether it is `gone`.

    `targets`, `rest`: what `node_state` returned of the nodes that are reset, and of the others,
    where one that did not answer has no membership, and one whose record is damaged no cluster.
    `confirmed`: what the user wrote: the name of the cluster, or the id of another one.
    `cluster_id`: this cluster's, "" while not known.

    An error says why nothing may be reset.
    """
    members = sorted(name for name, state in targets.items() if _phase(state) not in ("", "none"))
    theirs = {targets[name]["membership"]["cluster_id"] for name in members} - {None}
    if len(theirs) > 1:
        raise FilterRefusal(
            f"{', '.join(members)} belong to several clusters ({', '.join(sorted(theirs))}). "
            "Nothing was changed. Reset the nodes of one cluster at a time."
        )
    wanted = cluster_name
    if cluster_id and theirs - {cluster_id}:
        wanted = min(theirs)
    if confirmed != wanted:
        raise FilterRefusal(
            f"{', '.join(members) or ', '.join(sorted(targets))}: to reset what belongs to "
            f"{'another cluster' if wanted in theirs else 'this cluster'}, confirm it with "
            f"kubewright_confirm_reset={wanted}, not {confirmed!r}. Nothing was changed."
        )
    # Another cluster's machines do not ask this one's control planes, nor the other way round.
    ours = theirs or ({cluster_id} if cluster_id else set())
    silent = sorted(name for name, state in rest.items() if not _phase(state))
    anyone = {name: state for name, state in rest.items() if _phase(state) not in ("", "none")}
    others = {name: state for name, state in anyone.items() if _cluster(state) in ours}
    actor = acting(others)
    staying = sorted(others)
    if members and not actor and (silent or staying):
        raise FilterRefusal(
            f"{', '.join(members)}: still in a cluster, and none of its other control planes can "
            f"remove them from it. {_told(staying, silent)}Nothing was changed. Repair a control "
            "plane, or reset all nodes in one run."
        )
    # What is known of this cluster is also how to reach whoever is left of any.
    return {"actor": actor, "gone": wanted == cluster_name and not (silent or anyone)}


def _told(staying: Sequence[str], silent: Sequence[str]) -> str:
    said = [
        f"{', '.join(names)} {words}. "
        for names, words in ((staying, "would be left behind"), (silent, "did not answer"))
        if names
    ]
    return "".join(said)


def _phase(state: State) -> str:
    return str((state.get("membership") or {}).get("phase") or "")


def _cluster(state: State) -> str:
    return str(state["membership"]["cluster_id"])


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names as used in playbooks."""
        return {
            "reset_acting": acting,
            "reset_done": done,
            "reset_identity": identity,
            "reset_plan": reset_plan,
            "reset_states": states,
        }
