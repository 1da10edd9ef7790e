# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A cluster's identity as one file, for where no files are kept.

JSON: ``kubewright_identity`` (the form's number), ``cluster`` (what ``cluster.json`` says) and
``pki`` (PEM by path under ``pki``). ``kubewright identity export`` of the command writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.identity import (
    Identity,
    document,
    file_names,
    from_document,
)

FORM = 1


def compose(identity: Identity, pki: Mapping[str, str]) -> dict[str, Any]:
    """The bundle of an identity and its files, as `read` takes it."""
    return {"kubewright_identity": FORM, "cluster": json.loads(document(identity)), "pki": {**pki}}


def read(path: Path) -> tuple[Identity, dict[str, str]]:
    """The identity in the file *path*, and its files as `identity.read` gives them.

    Raises `KubewrightError` when it is none or not whole, or leaves open who begins the cluster.
    No message has any of its text.
    """
    # With it comes a library, which those who only compose need not have loaded.
    from ansible_collections.kubewright.cluster.plugins.module_utils._cluster.pki import (
        require_pairs,
    )

    remedy = "Use the unchanged output of `kubewright identity export`."
    try:
        bundle = json.loads(path.read_bytes())
    except ValueError:
        # The error's own text would show what is around the fault.
        raise KubewrightError(f"{path} is not an identity: it is not JSON. {remedy}") from None
    if not isinstance(bundle, dict) or bundle.get("kubewright_identity") != FORM:
        raise KubewrightError(f"{path} is not an identity of format {FORM}. {remedy}")
    try:
        identity = from_document(bundle["cluster"])
        pki = {name: str(bundle["pki"][name]) for name in file_names()}
    except (KeyError, TypeError, AttributeError) as error:
        missing = error.args[0] if isinstance(error, KeyError) else "cluster or pki"
        raise KubewrightError(f"{path} is incomplete: it lacks {missing}. {remedy}") from None
    if not identity.initial_node and not identity.begun:
        # Whoever takes it keeps no files: each of them could begin a cluster on a node of its own.
        raise KubewrightError(
            f"{path} does not say which node initializes the cluster. Run `kubewright "
            "identity make` where it was created, then export it again."
        )
    try:
        require_pairs(pki)
    except KubewrightError as error:
        raise KubewrightError(f"{path} is damaged: {error} {remedy}") from error
    return identity, pki
