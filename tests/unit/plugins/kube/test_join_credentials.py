# SPDX-License-Identifier: Apache-2.0
"""Tokens are made by kubeadm, returned, and never seen elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]
TOKEN = "abcdef.0123456789abcdef"
SECOND = "bcdefg.0123456789abcdef"

# Keeps its tokens in a file beside it and writes down how it was called.
KUBEADM = f"""#!/bin/sh
here=$(dirname "$0"); touch "$here/tokens"; echo "$@" >> "$here/calls"
case "$3" in
create) echo "W1123 a warning" >&2
        token={TOKEN}; grep -q {TOKEN} "$here/tokens" && token={SECOND}
        test ! -e "$here/full" || test $token = {TOKEN} || {{ echo "error: full" >&2; exit 1; }}
        echo $token >> "$here/tokens"; echo $token;;
list) echo "TOKEN TTL"; sed 's/$/   14m/' "$here/tokens";;
delete) grep -q "^$4\\." "$here/tokens" || {{
          echo "error: secrets \\"bootstrap-token-$4\\" not found" >&2; exit 1; }}
        sed -i "/^$4\\./d" "$here/tokens"; echo "bootstrap token \\"$4\\" deleted";;
esac
"""


@pytest.fixture
def actor(tmp_path: Path) -> Path:
    """A control plane: kubeadm and an administrator's kubeconfig."""
    (tmp_path / "kubeadm").write_text(KUBEADM)
    (tmp_path / "kubeadm").chmod(0o755)
    (tmp_path / "admin.conf").write_text("")
    return tmp_path


def credentials(run_module: RunModule, actor: Path, **more: Any) -> dict[str, Any]:
    places = {"kubeadm": str(actor / "kubeadm"), "kubeconfig": str(actor / "admin.conf")}
    if more.get("state") != "absent":
        more.setdefault("nodes", ["web-1"])
    return run_module("join_credentials", **{**places, **more})


def test_made_and_deleted(run_module: RunModule, actor: Path) -> None:
    made = credentials(run_module, actor)
    assert (made["changed"], made["tokens"]) == (True, {"web-1": TOKEN})
    assert made["token_ids"] == ["abcdef"]
    gone = credentials(run_module, actor, state="absent", token_ids=["abcdef"])
    assert (gone["changed"], gone["tokens"], gone["token_ids"]) == (True, {}, ["abcdef"])
    again = credentials(run_module, actor, state="absent", token_ids=["abcdef"])
    assert again["changed"] is False
    calls = (actor / "calls").read_text().splitlines()
    conf = f"--kubeconfig={actor}/admin.conf"
    assert calls[0] == f"token {conf} create --ttl=15m --description=kubewright join"
    assert calls[1] == f"token {conf} delete abcdef"
    assert "0123456789abcdef" not in "".join(calls)


def test_each_node_has_a_token_of_its_own(run_module: RunModule, actor: Path) -> None:
    made = credentials(run_module, actor, nodes=["web-1", "web-2"])
    assert made["tokens"] == {"web-1": TOKEN, "web-2": SECOND}
    assert made["diff"]["after"] == "join token abcdef\njoin token bcdefg\n"
    # Also where somebody has taken one back before.
    credentials(run_module, actor, state="absent", token_ids=["abcdef"])
    gone = credentials(run_module, actor, state="absent", token_ids=made["token_ids"])
    assert gone["token_ids"] == ["bcdefg"]
    assert (actor / "tokens").read_text() == ""


def test_where_one_can_not_be_made_none_is_left(run_module: RunModule, actor: Path) -> None:
    (actor / "full").touch()
    result = credentials(run_module, actor, nodes=["web-1", "web-2"])
    assert "error: full" in result["msg"] and TOKEN not in json.dumps(result)
    assert (actor / "tokens").read_text() == ""


def test_check_mode(run_module: RunModule, actor: Path) -> None:
    made = credentials(run_module, actor, check=True)
    assert made["changed"] and made["tokens"] == {"web-1": "000000.0000000000000000"}
    assert not (actor / "calls").exists()
    credentials(run_module, actor)
    absent = {"state": "absent", "token_ids": ["abcdef"], "check": True}
    assert credentials(run_module, actor, **absent)["changed"] is True
    assert TOKEN in (actor / "tokens").read_text()
    assert credentials(run_module, actor, **{**absent, "token_ids": ["zzzzzz"]})["changed"] is False
    nowhere = {**absent, "kubeconfig": "/nowhere"}
    assert credentials(run_module, actor, **nowhere)["changed"] is False


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_failure_does_not_show_a_token(run_module: RunModule, actor: Path, stream: str) -> None:
    where = ">&2" if stream == "stderr" else ""
    script = f"#!/bin/sh\necho {TOKEN} {where}\necho {TOKEN} {where}\necho no route >&2\nexit 1\n"
    (actor / "kubeadm").write_text(script)
    result = credentials(run_module, actor)
    assert "no route" in result["msg"]
    assert "0123456789abcdef" not in json.dumps(result)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"state": "absent"}, "token_ids"),
        ({"state": "absent", "token_ids": [TOKEN]}, "six characters before the dot"),
        ({"ttl_minutes": 0}, "never expires"),
        ({"kubeconfig": "/nowhere"}, "not a working control plane"),
        ({"kubeadm": "/bin/true"}, "printed no token"),
    ],
)
def test_refusals(run_module: RunModule, actor: Path, more: dict[str, Any], why: str) -> None:
    assert why in credentials(run_module, actor, **more)["msg"]


def test_overtaken_run_makes_no_token(run_module: RunModule, actor: Path) -> None:
    credentials(run_module, actor, epoch=2)
    assert "epoch 2" in credentials(run_module, actor, epoch=1)["msg"]
    assert len((actor / "calls").read_text().splitlines()) == 1
