# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Why a host did not answer, from what SSH and sudo say.

For the controller alone: what is known is in a file of the role preflight, which the command reads
too.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import inventory

FILE = Path(__file__).resolve().parents[3] / "roles/preflight/refusals.yml"
LAST_LINES = 3
# The check of what is no silence: the machine was reached, and could not be looked at.
PROBE = "probe"


class Refusal(NamedTuple):
    """What happened, and what to do. `off`: a machine without power is as silent."""

    check: str
    text: str
    remedy: str
    off: bool = False

    def of(self, host: str, provider: str) -> Refusal:
        """The same with how that host is switched on. `provider`: empty where it is not known."""
        if not self.off:
            return self
        ways = {
            "": "Power it on.",
            inventory.STATIC: "If it is off, power it on yourself: with its power "
            "button, its BMC or its hypervisor.",
        }
        made = (
            f"If it is off, the next `kubewright apply` powers it on, and so does the playbook "
            f"kubewright.cluster.power_on with -e kubewright_target={host}."
        )
        return self._replace(remedy=f"{ways.get(provider, made)} {self.remedy}")


@cache
def known() -> tuple[tuple[re.Pattern[str], Refusal], ...]:
    """All that are known by their words, narrower patterns first."""
    return tuple(
        (
            re.compile(one["pattern"]),
            Refusal(one["check"], one["text"], one["remedy"], one.get("powerless", False)),
        )
        for one in yaml_load(FILE.read_text("utf-8"))
    )


def explain(said: str) -> Refusal | None:
    """What the words of SSH, sudo, the shell or Ansible mean; None where they are not known."""
    for pattern, refusal in known():
        if match := pattern.search(said):
            return refusal._replace(text=match.expand(refusal.text))
    return None


def unexplained(said: str, unreachable: bool) -> Refusal:
    """The last words themselves."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = " ".join(lines[-LAST_LINES:]) or "it gave no reason"
    if unreachable:
        return Refusal("ssh", f"It does not answer: {last}", "Try `ssh ADDRESS` by hand.")
    return Refusal(PROBE, f"It could not be checked: {last}", "Fix that, then run it again.")
