# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""SHA-256 as the name of an image. How it is made: `_onnode.verify`."""

from __future__ import annotations

import re

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

_HEX = re.compile(r"[0-9a-f]{64}")


def parse(text: str) -> str:
    """*text* when it is a SHA-256 in lower-case hex, else `KubewrightError`."""
    if not _HEX.fullmatch(text):
        raise KubewrightError(f"digest {text[:80]!r} is not a SHA-256 in 64 lower-case hex digits.")
    return text
