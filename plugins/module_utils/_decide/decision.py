# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a run does, to whom, and in what order. Pure: the same situation gives the same decision.

Nodes that are no part of the cluster yet are prepared and joined together: nothing depends on them.
Those that run are changed in waves, each when the one before works again:

1. whoever is broken, all at once: a change takes nothing from the cluster there, and may bring back
   the quorum that the others need;
2. each control plane by itself, the one that acts for the cluster last;
3. one node of each pool;
4. all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._decide.situation import (
    CLUSTER_ROLE,
    Node,
    Situation,
)

IMAGE_ROLE = "system_volume"


@dataclass(frozen=True)
class Decision:
    """Names of nodes. `actor`: empty where nobody acts, in a check of machines that are not there.

    `touched`: all that need something: the `fresh` ones, and those of the `waves`. `proven`: whose
    health is awaited before the next wave. `tries`: who stays with another image only if it runs.
    `renewing`: whose certificates come before all else. `unsettled`: of whom is to be seen at the
    end whether they work.
    """

    actor: str
    touched: tuple[str, ...]
    fresh: tuple[str, ...]
    waves: tuple[tuple[str, ...], ...]
    proven: tuple[str, ...]
    tries: tuple[str, ...]
    renewing: tuple[str, ...]
    unsettled: tuple[str, ...]


def decide(situation: Situation, acting: str) -> Decision:
    """The decision. `acting`: who was elected."""
    touched = [node for node in situation.nodes if _needs(node, acting)]
    # The one that the others wait for comes first.
    fresh = sorted(
        (node for node in touched if not node.joined), key=lambda node: node.name != acting
    )
    running = [node for node in touched if node.joined]
    waves, proven = _waves(running, acting)
    names = {node.name for node in touched}
    return Decision(
        actor=acting,
        touched=tuple(node.name for node in touched),
        fresh=tuple(node.name for node in fresh),
        waves=waves,
        proven=proven,
        tries=tuple(node.name for node in running if IMAGE_ROLE in node.drift),
        renewing=tuple(
            sorted(node.name for node in situation.control_planes if node.joined and node.due)
        ),
        unsettled=tuple(
            node.name
            for node in situation.nodes
            if node.name in names or node.name in situation.impeded or not node.ready
        ),
    )


def _needs(node: Node, acting: str) -> bool:
    """Whether a node is changed: objects of the whole cluster are brought about by one alone."""
    return bool(node.drift - (frozenset() if node.name == acting else {CLUSTER_ROLE}))


def _waves(
    running: Sequence[Node], acting: str
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The waves, and who has to be healthy again before the next one."""
    broken = [node.name for node in running if node.broken]
    sound = [node for node in running if not node.broken]
    planes = sorted(
        (node for node in sound if node.is_control_plane),
        key=lambda node: (node.name == acting, node.name),
    )
    workers = [node for node in sound if not node.is_control_plane]
    firsts = [*{node.kind: node.name for node in reversed(workers)}.values()][::-1]
    others = [node.name for node in workers if node.name not in firsts]
    alone = [[node.name] for node in planes]
    waves = [wave for wave in (broken, *alone, firsts, others) if wave]
    return tuple(map(tuple, waves)), tuple([node.name for node in planes] + firsts)
