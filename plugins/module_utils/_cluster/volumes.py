# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""How large a system volume is at least."""

from __future__ import annotations

MINIMUM_BYTES = 20 * 10**9
