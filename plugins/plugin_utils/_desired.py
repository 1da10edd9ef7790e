# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: what a role desires of a host, rendered without running it.

What a document costs for each host is its templates. So these are compiled before Ansible forks,
and are all that Ansible is shown of a document. They are in vars/main.yml, since the lookup of a
template's file would copy all variables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _compiled

COLLECTION = Path(__file__).resolve().parents[2]
ROLES = COLLECTION / "roles"


class _Role:
    """A role's own variables, as they stand in its files, and its document."""

    def __init__(self, name: str, defaults: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        self.defaults, self.vars = defaults, own
        self.templates: list[str] = []
        self.document = _compiled.take_apart(own[name], self.templates)
        texts = {*self.templates, *_compiled.templates({**defaults, **own})}
        #: Variables that more than one template names.
        self.shared = [
            variable
            for variable in {**defaults, **own}
            if sum(variable in _compiled.names(text) for text in texts) > 1
        ]


def documents(
    roles: Iterable[str], variables: Mapping[str, Any], loader: DataLoader
) -> dict[str, dict[str, Any]]:
    """``<role>_desired`` of each of *roles* for the host whose *variables* are given, by role.

    Precedence is Ansible's own: a role's defaults lie below everything, its vars above.
    Secrets leave this function only as SHA-256, in ``digests`` by path.
    """
    found = _rendered(roles, variables, loader)
    for document in found.values():
        if secrets := document.pop("secrets", None):
            document["digests"] = {
                target: hashlib.sha256(str(content).encode()).hexdigest()
                for target, content in secrets.items()
            }
    return found


def to_write(
    roles: Iterable[str], variables: Mapping[str, Any], loader: DataLoader
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The same documents without their secrets; and these, of all of them, by path."""
    found = _rendered(roles, variables, loader)
    secrets: dict[str, str] = {}
    for document in found.values():
        secrets |= document.pop("secrets", None) or {}
    return found, secrets


def _rendered(
    roles: Iterable[str], variables: Mapping[str, Any], loader: DataLoader
) -> dict[str, dict[str, Any]]:
    return {role: _document(role, variables, loader) for role in roles}


def _document(role: str, variables: Mapping[str, Any], loader: DataLoader) -> dict[str, Any]:
    if not (ROLES / role).is_dir():
        raise AnsibleError(f"node_state: this collection has no role {role!r}.")
    if role not in _KNOWN:
        raise AnsibleError(
            f"node_state: the role {role!r} desires nothing ({role}_desired is not defined)."
        )
    own = _KNOWN[role]
    path = str(ROLES / role)
    scope = {**own.defaults, **variables, **own.vars, "role_name": role, "role_path": path}
    values = _TEMPLATES.render(own.templates, own.shared, scope, loader.get_basedir())
    rendered = _compiled.put_together(own.document, values)
    if not isinstance(rendered, Mapping):
        raise AnsibleError(f"node_state: {role}_desired is not a mapping.")
    return dict(rendered)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    loaded = DataLoader().load_from_file(str(path), unsafe=True, trusted_as_template=True)
    return loaded or {}


def _read() -> dict[str, _Role]:
    """The roles that desire something of a node, by name."""
    found = {}
    for path in ROLES.glob("*/vars/main.yml"):
        role, own = path.parents[1], _load(path)
        if (name := f"{role.name}_desired") in own:
            found[role.name] = _Role(name, _load(role / "defaults/main.yml"), own)
    return found


# Ansible imports an action plugin before it forks: all of a run's workers share what is read here.
_KNOWN = _read()
_TEMPLATES = _compiled.Compiled()
for _role in _KNOWN.values():
    _TEMPLATES.compile(_compiled.templates({**_role.defaults, **_role.vars}))
_TEMPLATES.compile(_compiled.templates(_load(COLLECTION / "playbooks/vars/nodes.yml")))
