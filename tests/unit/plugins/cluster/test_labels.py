# SPDX-License-Identifier: Apache-2.0
"""What a Node may have as labels."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import labels
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import kubeadm_config


@pytest.mark.parametrize("text", ["", "a", "A1", "eu-west-1a", "n2d.standard_4", "x" * 63])
def test_values(text: str) -> None:
    assert labels.is_value(text)


@pytest.mark.parametrize("text", ["-a", "a.", "a b", "a,b=c", "a\n", "ä", "x" * 64, None, 1, True])
def test_no_values(text: Any) -> None:
    assert not labels.is_value(text)


@pytest.mark.parametrize("text", ["zone", "example.com/zone", "a.b-c.d/E_f"])
def test_names(text: str) -> None:
    assert labels.is_name(text)


@pytest.mark.parametrize("text", ["", "/zone", "example.com/", "Example.com/zone", "a/b/c", "a b"])
def test_no_names(text: str) -> None:
    assert not labels.is_name(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": {"zone": "a,b=c"}}, "labels: 'a,b=c' can't be the value of zone. Write"),
        ({"labels": {"a b": "c"}}, "labels: 'a b' is not a valid label name"),
        ({"labels": {"count": 1}}, "labels: 1 can't be the value of count"),
        ({"provider_id": 'local://"x'}, "is not <provider>://<id> of letters"),
    ],
)
def test_the_kubelets_arguments_hold_one_thing_each(changes: dict[str, Any], said: str) -> None:
    """They are one text for the kubelet: a comma begins another label, a quote ends the text."""
    node = {"name": "demo-web-1", "address": "192.0.2.11", **changes}
    with pytest.raises(KubewrightError) as raised:
        kubeadm_config.node_registration(node)
    assert said in str(raised.value)
