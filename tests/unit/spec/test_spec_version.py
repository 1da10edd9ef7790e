# SPDX-License-Identifier: Apache-2.0
"""Which release a cluster has, and which it would have if it were made now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubewright.locations import ClusterPaths
from kubewright.spec import version
from kubewright.spec.models import ControlPlane, Spec
from kubewright.spec.rules import Unresolved


@pytest.fixture(autouse=True)
def moved_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory of its own, and a catalogue that has 1.37.3 and 1.38.0."""
    monkeypatch.setenv("KUBEWRIGHT_STATE_DIR", str(tmp_path))

    def newest(text: str) -> str:
        for known in ("1.38.0", "1.37.3"):
            if known == text or known.startswith(f"{text}."):
                return known
        raise Unresolved(f"there is no {text}", "write 1.38")

    monkeypatch.setattr(version, "_of_catalogue", newest)


def spec(text: str) -> Spec:
    return Spec(
        plugin="kubewright.cluster.spec",
        name="demo",
        version=text,
        control_plane=ControlPlane(provider="local", size=1),
        pools=(),
    )


def record(**identity: Any) -> None:
    directory = ClusterPaths.of("demo").identity
    directory.mkdir(parents=True)
    (directory / "cluster.json").write_text(json.dumps(identity))


@pytest.mark.parametrize(
    ("text", "has", "newer"),
    [
        ("1.37", "1.37.2", "1.37.3"),
        ("1.37.2", "1.37.2", ""),
        # Refused by the identity, which says what to write.
        ("1.37.3", "1.37.3", ""),
        ("1.38", "1.38.0", ""),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_what_the_cluster_was_begun_with_counts(
    text: str, has: str, newer: str, begun: bool
) -> None:
    """From the moment on at which a node may have begun it."""
    record(begun=begun, initial_node="demo-cp-1", fixed={"version": "1.37.2"})
    assert (version.release(spec(text)), version.newer(spec(text))) == (has, newer)


@pytest.mark.parametrize(
    "identity",
    [
        None,
        {"begun": False, "initial_node": "", "fixed": {"version": "1.37.2"}},
        {"begun": True, "initial_node": "demo-cp-1"},
        {"begun": True, "initial_node": "demo-cp-1", "fixed": []},
    ],
)
def test_else_the_catalogue(identity: dict[str, Any] | None) -> None:
    if identity is not None:
        record(**identity)
    assert (version.release(spec("1.37")), version.newer(spec("1.37"))) == ("1.37.3", "")
    with pytest.raises(Unresolved):
        version.release(spec("1.37.2"))
