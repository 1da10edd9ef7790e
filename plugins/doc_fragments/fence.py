# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation shared by all modules that change a node."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of the fence."""

    DOCUMENTATION = r"""
options:
  epoch:
    description:
      - Epoch of the run. A node that has seen a higher one refuses to be changed.
      - Without it, only the node lock protects the node.
    type: int
  run:
    description:
      - Id of the run, as M(kubewright.cluster.run_epoch) gives it. Of two runs with the
        same O(epoch), a node obeys the one that came first.
    type: str
  lock_timeout:
    description: Seconds to wait for another process that is changing this node.
    type: int
    default: 600
"""
