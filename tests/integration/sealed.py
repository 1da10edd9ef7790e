# SPDX-License-Identifier: Apache-2.0
"""The places of a node that are read-only, and what a write to them comes to."""

from __future__ import annotations

from machines import run_on

#: As in plugins/module_utils/_fence/sealed.py: nothing here imports the collection.
PLACES = ("/var/lib/kubewright/system", "/etc/kubernetes", "/etc/kubewright")

_REFUSED = """
for place; do
    if said=$(LC_ALL=C touch "$place/kubewright-test" 2>&1); then
        echo "$place takes writes"
    else
        case $said in *"Read-only file system"*) ;; *) echo "$said" ;; esac
    fi
done
"""


def look(*places: str) -> list[str]:
    """The command that prints which places do not refuse a write as read-only, in words."""
    return ["sh", "-c", _REFUSED, "look", *places]


def accepting(node: str) -> list[str]:
    """Return what ``look`` prints on a machine of the local provider; of PLACES."""
    return run_on(node, look(*PLACES)).splitlines()
