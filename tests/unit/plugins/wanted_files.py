# SPDX-License-Identifier: Apache-2.0
"""Entries of ``files`` that whoever runs the tests can own, and a secret."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

OWNER = {"owner": str(os.getuid()), "group": str(os.getgid())}
SECRET = "-----BEGIN KEY-----\nverysecret\n-----END KEY-----\n"


def file(path: Path, content: str, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "state": "file", "content": content, **OWNER, **more}
