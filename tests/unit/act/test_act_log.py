# SPDX-License-Identifier: Apache-2.0
"""Failures, read out of logs."""

from __future__ import annotations

from kubewright.act import Failure
from kubewright.act.log import failures

LOG = """\
2026-01-01 00:00:00 UTC: kubewright.cluster.site (run 1)

PLAY [Prepare the nodes] *****************************

TASK [kubewright.cluster.worker : Join] **************
[ERROR]: Task failed: Module failed: no
fatal: [a]: FAILED! => {"changed": false, "msg": "no token"}
fatal: [b -> c(192.0.2.1)]: FAILED! => {"changed": false, "msg": "expected"}
...ignoring

TASK [Load] ******************************************
failed: [b] (item=x) => {"item": "x", "msg": "x is bad"}
failed: [b] (item=y) => {"item": "y", "msg": "y is bad"}
fatal: [b]: FAILED! => {"changed": false, "msg": "One or more items failed"}
fatal: [c]: UNREACHABLE! => {"changed": false, "msg": "Connection refused", "unreachable": true}
fatal: [d]: FAILED! => {"changed": false, "msg": "mended by a rescue"}
"""
RECAP = """
PLAY RECAP *******************************************
a  : ok=4    changed=2    unreachable=0    failed=1    skipped=0    rescued=0    ignored=0
b  : ok=4    changed=2    unreachable=0    failed=1    skipped=0    rescued=0    ignored=1
c  : ok=4    changed=2    unreachable=1    failed=0    skipped=0    rescued=0    ignored=0
d  : ok=4    changed=2    unreachable=0    failed=0    skipped=0    rescued=1    ignored=0
"""
FOUND = [
    Failure("a", "Join", "no token"),
    Failure("b", "Load", "x is bad; y is bad"),
    Failure("c", "Load", "Connection refused"),
]


def test_what_made_the_run_fail() -> None:
    assert failures((LOG + RECAP).splitlines()) == FOUND


def test_a_log_without_an_end_tells_all() -> None:
    rescued = Failure("d", "Load", "mended by a rescue")
    assert failures(LOG.splitlines()) == [*FOUND, rescued]
    cut = failures(["TASK [T] **", 'fatal: [a]: FAILED! => {"msg": "hal'])
    assert cut == [Failure("a", "T", '{"msg": "hal')]


def test_a_good_log_has_none() -> None:
    assert failures(["TASK [T] **", "ok: [a]", "changed: [b]"]) == []
