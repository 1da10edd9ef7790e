# SPDX-License-Identifier: Apache-2.0
"""The providers that a collection has: its roles ``provider_<name>``, and what each can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_PREFIX = "provider_"
_FILE = "provider.yml"


class ProviderError(Exception):
    """A role's provider.yml can't be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Provider:
    """Where machines come from.

    ``capabilities`` is a subset of create, delete, reboot, power_off, power_on; ``host_vars`` are
    set on each of its machines.
    """

    name: str
    capabilities: frozenset[str] = frozenset()
    host_vars: Mapping[str, Any] = field(default_factory=dict)


def find(collection: Path) -> dict[str, Provider] | None:
    """Return a collection's providers by name, or None when the directory has no roles.

    Role names have underscores where provider names have hyphens. A role without provider.yml has
    no capability.

    :raises ProviderError: a provider.yml is not what it should be.
    """
    roles = collection / "roles"
    if not roles.is_dir():
        return None
    found = {}
    for role in sorted(roles.glob(f"{_PREFIX}*")):
        if (role / "tasks").is_dir() or (role / _FILE).is_file():
            name = role.name.removeprefix(_PREFIX).replace("_", "-")
            found[name] = _read(name, role / _FILE)
    return found


def _read(name: str, file: Path) -> Provider:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Provider(name)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ProviderError(f"{file}: can't be read: {error}") from error
    if not isinstance(data, dict):
        raise ProviderError(f"{file}: is not a mapping; write capabilities and host_vars")
    capabilities, host_vars = data.get("capabilities", []), data.get("host_vars") or {}
    if not isinstance(capabilities, list) or not all(
        isinstance(item, str) for item in capabilities
    ):
        raise ProviderError(f"{file}: capabilities is not a list of strings")
    if not isinstance(host_vars, dict):
        raise ProviderError(f"{file}: host_vars is not a mapping")
    return Provider(name, frozenset(capabilities), host_vars)
