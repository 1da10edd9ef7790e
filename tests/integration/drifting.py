# SPDX-License-Identifier: Apache-2.0
"""Makes drifts, asks whether they were mended, and compares ``plan`` with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from cluster import Cluster
from drifts import Drift
from machines import IMAGE_ROOT, run_on

#: Machines at once: each costs this host a podman exec.
AT_ONCE = 3
_FUNCTIONS = f"""
kubectl() {{
    {IMAGE_ROOT}/bin/kubectl --kubeconfig=/etc/kubernetes/admin.conf \\
        --server=https://127.0.0.1:6443 "$@"
}}
images() {{ {IMAGE_ROOT}/bin/ctr --namespace k8s.io images "$@"; }}
"""


@contextmanager
def made(cluster: Cluster, drifts: Sequence[Drift]) -> Iterator[None]:
    """Make the drifts. Where the body fails, an apply mends what it can: other tests follow."""

    def make(drift: Drift) -> str:
        return f"echo 'making {drift.name}' >&2\n{{\n{drift.make}\n}} </dev/null >/dev/null"

    try:
        _on_machines(cluster, drifts, make)
        yield
    except BaseException:
        ended = cluster.apply()
        print(f"after the failure, an apply ended with {ended.status}:\n{ended.stderr}")
        raise


def not_mended(cluster: Cluster, drifts: Sequence[Drift]) -> list[str]:
    """Return the names of the drifts that are still there."""

    def ask(drift: Drift) -> str:
        return f"{{ {drift.mended}; }} </dev/null >/dev/null 2>&1 || echo {drift.name}"

    said = _on_machines(cluster, drifts, ask)
    return [name for text in said for name in text.split()]


def misnamed(cluster: Cluster, drifts: Sequence[Drift], plan: dict[str, Any]) -> list[str]:
    """Return what ``plan`` does not name though it was changed, and the other way round."""
    found = {(node, role): reasons for node, role, reasons in _steps(plan)}
    made = {(_full(cluster, drift.node), drift.role) for drift in drifts}
    problems = [f"{node or 'cluster'}: {role} is not named" for node, role in made - set(found)]
    problems += [
        f"{node or 'cluster'}: {role} is named, but nothing was changed: {found[node, role]}"
        for node, role in set(found) - made
    ]
    for drift in drifts:
        reasons = found.get((_full(cluster, drift.node), drift.role), [])
        if not any(drift.reason in reason for reason in reasons):
            problems.append(f"{drift.name}: {drift.reason!r} is in none of {reasons}")
    changed = {node for node, _ in made}
    for node in plan["nodes"]:
        state = "drifted" if node["name"] in changed else "unchanged"
        if node["state"] != state:
            problems.append(f"{node['name']}: is {node['state']}, should be {state}")
    if plan["changes"] is not bool(drifts):
        problems.append(f"changes: {plan['changes']}")
    return problems


def told(problems: Sequence[str], plan: dict[str, Any] | None = None) -> str:
    """Return problems as the message of an assertion, with the plan below them."""
    below = [json.dumps(plan, indent=1)] if plan is not None else []
    return "\n".join(["", *problems, *below])


def _steps(plan: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    for node in plan["nodes"]:
        for step in node["steps"]:
            yield node["name"], step["role"], step["reasons"]
    for step in plan["cluster_steps"]:
        yield "", step["role"], step["reasons"]


def _full(cluster: Cluster, node: str) -> str:
    return f"{cluster.name}-{node}" if node else ""


def _on_machines(
    cluster: Cluster, drifts: Sequence[Drift], text: Callable[[Drift], str]
) -> list[str]:
    """Run a shell text for each drift, one script a machine; return what each script said."""
    scripts: dict[str, list[str]] = {}
    for drift in drifts:
        lines = scripts.setdefault(_full(cluster, drift.place), ["set -e", _FUNCTIONS])
        lines += [f"NODE={_full(cluster, drift.node)}", text(drift)]

    def run(machine: str) -> str:
        return run_on(machine, ["sh"], stdin="\n".join([*scripts[machine], ""]).encode())

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, scripts))
