# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Who acts, who is changed, in what order. Pure: no I/O, no clock. For cluster_decision only."""
