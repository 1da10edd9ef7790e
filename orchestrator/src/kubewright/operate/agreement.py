# SPDX-License-Identifier: Apache-2.0
"""What a user has said yes to, and whether it is still what would be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubewright.act.messages import named
from kubewright.operate.cluster import Cluster
from kubewright.operate.errors import OperationError, Why
from kubewright.spec import load


@dataclass(frozen=True)
class Agreement:
    """A yes to a plan, which was made of the cluster as its file said then.

    ``after``: the run before the plan that may have changed something, "" for none.
    ``without``: the nodes that did not answer, where the user agreed to go on without them.
    """

    cluster: Cluster
    after: str
    without: frozenset[str] = frozenset()

    def require_unchanged(self, newest: str) -> None:
        """Return when the file and the cluster are those that the plan was made of.

        ``newest``: the run that may have changed something last, by the session that holds the
        cluster.

        :raises OperationError: they are not.
        """
        if load(self.cluster.file) != self.cluster.spec:
            raise _refusal(f"{self.cluster.file} has changed since the plan was made")
        if newest != self.after:
            raise _refusal("another operation has run since the plan was made")

    def require_no_others(self, unreachable: Iterable[str], data: Mapping[str, Any]) -> None:
        """Return when a good run has left out no more nodes than were agreed to.

        ``data``: the run's result, for the error. Where nobody was to be left out, it is the run
        itself that fails for it.

        :raises OperationError: it has.
        """
        late = sorted(set(unreachable) - self.without)
        if not self.without or not late:
            return
        words = (
            "was left out too: it stopped answering"
            if len(late) == 1
            else "were left out too: they stopped answering"
        )
        raise OperationError(
            f"{named(late)} {words}",
            remedy="Run the command again when "
            f"{'it answers' if len(late) == 1 else 'they answer'}.",
            why=Why.UNHEALTHY,
            data=data,
        )


def _refusal(what: str) -> OperationError:
    return OperationError(
        f"{what}; nothing was done", remedy="Run the command again.", why=Why.REFUSED
    )
