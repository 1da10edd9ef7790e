# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: what a role desires of a host, rendered without running it.

What it costs for each host is Ansible compiling the templates that are in a document. So the roles
keep these few, and in vars/main.yml: the lookup of a template's file would copy all variables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLES = Path(__file__).resolve().parents[2] / "roles"


@dataclass(frozen=True)
class _Role:
    """A role's own variables, as they stand in its files."""

    defaults: Mapping[str, Any]
    vars: Mapping[str, Any]


def documents(
    roles: Iterable[str], templar: Templar, variables: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """``<role>_desired`` of each of *roles* for the host whose *variables* are given, by role.

    Precedence is Ansible's own: a role's defaults lie below everything, its vars above.
    Secrets leave this function only as SHA-256, in ``digests`` by path.
    """
    found = _rendered(roles, templar, variables)
    for document in found.values():
        if secrets := document.pop("secrets", None):
            document["digests"] = {
                target: hashlib.sha256(str(content).encode()).hexdigest()
                for target, content in secrets.items()
            }
    return found


def to_write(
    roles: Iterable[str], templar: Templar, variables: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The same documents without their secrets; and these, of all of them, by path."""
    found = _rendered(roles, templar, variables)
    secrets: dict[str, str] = {}
    for document in found.values():
        secrets |= document.pop("secrets", None) or {}
    return found, secrets


def _rendered(
    roles: Iterable[str], templar: Templar, variables: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    # One for all roles: it keeps the filters that it has found.
    own = templar.copy_with_new_env()
    return {role: _document(role, own, variables) for role in roles}


def _document(role: str, templar: Templar, variables: Mapping[str, Any]) -> dict[str, Any]:
    if not (ROLES / role).is_dir():
        raise AnsibleError(f"node_state: this collection has no role {role!r}.")
    name = f"{role}_desired"
    if role not in _KNOWN:
        raise AnsibleError(
            f"node_state: the role {role!r} desires nothing ({name} is not defined)."
        )
    own = _KNOWN[role]
    path = str(ROLES / role)
    scope = {**own.defaults, **variables, **own.vars, "role_name": role, "role_path": path}
    templar.available_variables = scope
    rendered = templar.template(scope[name])
    if not isinstance(rendered, Mapping):
        raise AnsibleError(f"node_state: {name} is not a mapping.")
    return dict(rendered)


def _read() -> dict[str, _Role]:
    """The roles that desire something of a node, by name."""
    loader = DataLoader()

    def load(path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {}
        return loader.load_from_file(str(path), unsafe=True, trusted_as_template=True) or {}

    found = {}
    for path in ROLES.glob("*/vars/main.yml"):
        role = path.parents[1]
        own = load(path)
        if f"{role.name}_desired" in own:
            found[role.name] = _Role(load(role / "defaults/main.yml"), own)
    return found


# Ansible imports an action plugin before it forks: all of a run's workers share what is read here.
_KNOWN = _read()
