# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which Kubewright this is; `galaxy.yml` and the package say the same (tools/dist.py looks)."""

from __future__ import annotations

VERSION = "0.1.0"
