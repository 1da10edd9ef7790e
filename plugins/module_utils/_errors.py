# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: the one exception that modules turn into ``fail_json``."""

from __future__ import annotations


class KubewrightError(Exception):
    """Something a user can act on: the text says what happened, where, and what to do."""
