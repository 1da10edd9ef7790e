# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Private to kubewright.cluster: whether Ansible lets a host's SSH key be checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from ansible import constants, context
from ansible.plugins.loader import connection_loader

# accept-new takes any key of a host that is not known yet.
_OFF = re.compile(r"""stricthostkeychecking[=\s"']+(no|off|accept-new)\b""", re.IGNORECASE)
_ARGUMENTS = ("ssh_args", "ssh_common_args", "ssh_extra_args")
# Options of the plugins that have them, and the value that takes any key: of those that speak SSH
# themselves, as paramiko does, the second one does it for hosts that are not known yet.
_SWITCHES = {"host_key_checking": False, "host_key_auto_add": True}


def unchecked(variables: Mapping[str, Any]) -> str:
    """What switches the check off for a host with these *variables*, and where; else empty.

    It may be a variable, one of the environment, a line of ansible.cfg or an option of the command.
    """
    named = variables.get("ansible_connection") or context.CLIARGS.get("connection") or "ssh"
    plugin, options = _plugin(str(named).removeprefix("ansible.builtin."))
    for name, off in _SWITCHES.items():
        if name in options:
            value, origin = _option(plugin, name, variables)
            if value is off:
                return f"{name} = {str(off).lower()} ({origin})"
    for name in _ARGUMENTS:
        if name in options:
            value, origin = _option(plugin, name, variables)
            if found := _OFF.search(str(value or "")):
                return f"StrictHostKeyChecking={found[1]} in {name} ({origin})"
    return ""


@cache
def _plugin(name: str) -> tuple[str, frozenset[str]]:
    """What a connection plugin is called where its options are kept, and what they are called.

    Of one that is not there Ansible itself says so: it has none.
    """
    # Its options are known once it is loaded.
    plugin = connection_loader.get(name, class_only=True)
    if plugin is None:
        return name, frozenset()
    loaded = str(plugin._load_name)
    return loaded, frozenset(constants.config.get_configuration_definitions("connection", loaded))


def _option(plugin: str, name: str, variables: Mapping[str, Any]) -> tuple[Any, str]:
    """The value that the connection plugin will have, and where it comes from."""
    value, origin = constants.config.get_config_value_and_origin(
        name, plugin_type="connection", plugin_name=plugin, variables=variables
    )
    return value, str(origin).removeprefix("var: ").removeprefix("env: ")
