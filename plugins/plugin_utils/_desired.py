# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: what a role desires of a host, rendered without running it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLES = Path(__file__).resolve().parents[2] / "roles"


def document(
    role: str, templar: Templar, loader: DataLoader, variables: Mapping[str, Any]
) -> dict[str, Any]:
    """``<role>_desired`` of *role* for the host whose *variables* are given.

    Precedence is Ansible's own: the role's defaults lie below everything, its vars above.
    Secrets leave this function only as SHA-256, in ``digests`` by path.
    """
    path = ROLES / role
    if not path.is_dir():
        raise AnsibleError(f"node_state: this collection has no role {role!r}.")
    own = {
        "role_name": role,
        "role_path": str(path),
        "ansible_search_path": [str(path)],
    }
    scope = {**_read(path / "defaults", loader), **variables, **_read(path / "vars", loader), **own}
    name = f"{role}_desired"
    if name not in scope:
        raise AnsibleError(
            f"node_state: the role {role!r} desires nothing ({name} is not defined)."
        )
    # The name again as an expression: a value that is no text is not rendered by itself.
    rendered = templar.copy_with_new_env(
        searchpath=[str(path)], available_variables=scope
    ).template(scope[name])
    if not isinstance(rendered, Mapping):
        raise AnsibleError(f"node_state: {name} is not a mapping.")
    result = dict(rendered)
    secrets = result.pop("secrets", None) or {}
    if secrets:
        result["digests"] = {
            target: hashlib.sha256(str(content).encode()).hexdigest()
            for target, content in secrets.items()
        }
    return result


def _read(directory: Path, loader: DataLoader) -> dict[str, Any]:
    path = directory / "main.yml"
    if not path.is_file():
        return {}
    return loader.load_from_file(str(path), trusted_as_template=True) or {}
