# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: whether roles can read what an inventory tells them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.kubewright.cluster.plugins.plugin_utils._desired import ROLES


def check(
    roles: Iterable[str], told: Container[str], templar: Templar, variables: Mapping[str, Any]
) -> None:
    """Check those options of *roles* whose names are in *told*, with their values in *variables*.

    An option that is not told is not missed: the play or a default may give it.

    :raises AnsibleError: all that is wrong, with role, option, problem and what to write.
    """
    problems = [
        f"Role {role}, option {name}: {message}. Write {_kind(option)}."
        for role in roles
        for name, option in _OPTIONS.get(role, {}).items()
        if name in told
        for message in _problems(name, option, templar.template(variables[name]))
    ]
    if problems:
        raise AnsibleError(" ".join(problems))


def _problems(name: str, option: Mapping[str, Any], value: Any) -> list[str]:
    found = ArgumentSpecValidator({name: option}).validate({name: value})
    return [message.rstrip(".") for message in found.error_messages]


def _kind(option: Mapping[str, Any]) -> str:
    if "choices" in option:
        return f"one of {', '.join(map(str, option['choices']))}"
    kind = f"a value of the type {option['type']}"
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def _read() -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """The options of the roles' entry points ``main``, by role and name."""
    loader = DataLoader()
    found = {}
    for path in ROLES.glob("*/meta/argument_specs.yml"):
        specs = loader.load_from_file(str(path), unsafe=True)["argument_specs"]
        found[path.parents[1].name] = specs.get("main", {}).get("options", {})
    return found


# Read before Ansible forks, like what the roles desire.
_OPTIONS = _read()
