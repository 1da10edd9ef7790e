# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation shared by all modules that speak with the Kubernetes API from a node."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the API is."""

    DOCUMENTATION = r"""
options:
  api_servers:
    description:
      - Addresses of API servers, tried in this order. On a control plane, list its own first.
    type: list
    elements: str
    required: true
  api_name:
    description: The name in the API servers' certificates.
    type: str
    required: true
"""
