# SPDX-License-Identifier: Apache-2.0
"""What the benchmark reads: by_hand.sh's lines, Ansible's recap, phases of either side."""

from __future__ import annotations

import by_hand
import pytest
import recap
import rounds
import stages
from measured import Timed

RECAP = """\
PLAY [Probe the nodes] *******************************************************

TASK [Ask the node what it is] *************************************************
ok: [kwbench-cp-1]

PLAY RECAP *********************************************************************
kwbench-cp-1               : ok=1    changed=0    unreachable=0    failed=0    skipped=2    rescued=0    ignored=0   
kwbench-web-1              : ok=4    changed=2    unreachable=0    failed=0    skipped=0    rescued=1    ignored=1   
kwbench-web-2              : ok=0    changed=0    unreachable=1    failed=0    skipped=0    rescued=0    ignored=0   
kwbench-web-3              : ok=0    changed=0    unreachable=0    failed=0    skipped=3    rescued=0    ignored=0   
localhost                  : ok=9    changed=1    unreachable=0    failed=0    skipped=3    rescued=0    ignored=0   

2026-01-01 00:00:00 UTC: successful after 9 s
"""  # noqa: E501, W291 -- as Ansible prints it


def test_by_hand() -> None:
    said = "phase machines 3.1\nphase control_planes 79.0\ntotal 129.4\n"
    assert by_hand.parse(said) == Timed(129.4, {"machines": 3.1, "control_planes": 79.0})


@pytest.mark.parametrize(
    "said",
    [
        "",
        "phase machines 3.1\n",
        "total 1.0\ntotal 2.0\n",
        "phase machines 1.0\nphase machines 2.0\ntotal 3.0\n",
        "total 3.0\nphase machines 1.0\n",
        "phase machines\ntotal 3.0\n",
        "phase machines soon\ntotal 3.0\n",
        "node/kwhand-1 condition met\ntotal 3.0\n",
    ],
)
def test_by_hand_that_printed_something_else(said: str) -> None:
    with pytest.raises(ValueError):
        by_hand.parse(said)


def test_recap_counts_tasks_of_machines_that_were_contacted() -> None:
    machines = recap.of_machines(recap.parse(RECAP))
    tasks = {host: counts.host_tasks for host, counts in machines.items()}
    assert tasks == {"kwbench-cp-1": 1, "kwbench-web-1": 5, "kwbench-web-2": 1}


def test_recap_tells_who_changed_the_controller_included() -> None:
    counts = recap.parse(RECAP)
    assert recap.changed(counts) == {"kwbench-web-1", "localhost"}
    assert recap.changed(recap.of_machines(counts)) == {"kwbench-web-1"}


def test_the_last_recap_counts() -> None:
    again = RECAP.replace("changed=2", "changed=0")
    assert recap.changed(recap.of_machines(recap.parse(RECAP + again))) == frozenset()


@pytest.mark.parametrize("text", ["", "ERROR! no such playbook\n", "PLAY RECAP ****\n\nkw : ok\n"])
def test_no_recap(text: str) -> None:
    with pytest.raises(ValueError, match="RECAP"):
        recap.parse(text)


def test_rounds_begin_by_turns() -> None:
    assert [rounds.first(number) for number in (1, 2, 3)] == ["by_hand", "kubewright", "by_hand"]


@pytest.mark.parametrize(
    ("phase", "stage"),
    [
        ("machines", stages.MACHINES),
        ("Create the machines", stages.MACHINES),
        ("init", stages.BEGIN),
        ("network", stages.BEGIN),
        ("Probe the nodes", stages.LOOK),
        ("Prepare to write", stages.LOOK),
        ("Prepare the nodes, initialize the cluster", stages.BEGIN),
        ("control_planes", stages.JOIN),
        ("workers", stages.JOIN),
        ("Join the nodes", stages.JOIN),
        ("ready", stages.READY),
        ("Wait until the cluster is ready", stages.READY),
        ("outside the plays", stages.COMMAND),
        ("Something new", stages.OTHER),
    ],
)
def test_stage(phase: str, stage: str) -> None:
    assert stages.stage(phase) == stage


def test_stages_lose_no_second() -> None:
    phases = {"machines": 3.0, "init": 13.0, "workers": 4.0, "control_planes": 79.0, "new": 1.0}
    found = stages.by_stage(phases)
    assert tuple(found) == stages.STAGES
    assert sum(found.values()) == 100.0
    assert found[stages.JOIN] == 83.0
