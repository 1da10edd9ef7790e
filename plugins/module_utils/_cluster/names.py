# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Names of machines, pools and of the API. Pure."""

from __future__ import annotations

import re

# A DNS label, RFC 1123, and how long one may be. Linux's HOST_NAME_MAX is one more.
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
MAX_LABEL = 63
# Names that Ansible or the inventory of a cluster.yml has for something else.
RESERVED = ("all", "kubewright", "leaving", "localhost", "ungrouped", "workers")


def is_label(text: object) -> bool:
    """Whether it is a DNS label."""
    return isinstance(text, str) and len(text) <= MAX_LABEL and bool(LABEL.fullmatch(text))
