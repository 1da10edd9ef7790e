# SPDX-License-Identifier: Apache-2.0
"""Workers are removed in an order that any later run can finish; nobody else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.filter import removal

CHECKOUT = Path(__file__).resolve().parents[4]
VARIABLES: dict[str, dict[str, Any]] = {
    "a": {},
    "web-1": {"kubewright_role": "worker"},
    "web-2": {"kubewright_role": "worker"},
    "old-cp": {"kubewright_role": "control_plane"},
}


@pytest.mark.parametrize("host", ["a", "old-cp"])
def test_control_planes_stay_also_those_that_the_file_no_longer_has(host: str) -> None:
    told = removal.refusal(VARIABLES, [host, "web-1"], ["a"], f"{host},web-1")
    assert told.startswith(f"{host}: a control plane. Kubewright can only remove workers yet.")


@pytest.mark.parametrize("confirmed", ["", "web-1", "web-1,web-2,web-3", "yes"])
def test_exactly_those_that_go_have_to_be_named(confirmed: str) -> None:
    told = removal.refusal(VARIABLES, ["web-2", "web-1"], ["a"], confirmed)
    assert told.endswith("Confirm it with -e kubewright_confirm_remove=web-1,web-2")


def test_named_in_any_order_they_go() -> None:
    assert removal.refusal(VARIABLES, ["web-2", "web-1"], ["a"], "web-1, web-2") == ""


def test_the_order() -> None:
    """Before its pods are forgotten a machine is off; what a later run finds it by goes last."""
    _, play = yaml.safe_load((CHECKOUT / "playbooks/node_remove.yml").read_text())
    assert (play["serial"], play["any_errors_fatal"]) == (1, True)
    names = [task["name"] for task in play["tasks"]]
    assert names == [
        "Probe your own machine",
        "Find what the cluster has of the node",
        "Drain the node",
        "Power off the machine",
        "Remove the node from the cluster",
        "Restore your own machine",
        "Delete the machine",
        "Forget the machine",
    ]
    by_name = dict(zip(names, play["tasks"], strict=True))
    assert by_name["Find what the cluster has of the node"]["check_mode"] is True
    for name in ("Power off the machine", "Delete the machine"):
        task = by_name[name]
        assert task["when"] == "provider != 'static' and not ansible_check_mode"
        assert task["ansible.builtin.include_role"]["apply"] == {"connection": "local"}
