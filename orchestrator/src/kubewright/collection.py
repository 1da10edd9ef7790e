# SPDX-License-Identifier: Apache-2.0
"""The collection ``kubewright.cluster`` that came with this package, and how Python finds it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from kubewright import __version__

_ROOT = "ansible_collections"
_COLLECTION = f"{_ROOT}.kubewright.cluster"


class CollectionError(ImportError):
    """The collection is missing, or is of another version; the message says what to do."""


def collections_path(prefix: str | None = None) -> Path:
    """Return what to put on Ansible's collections path for the collection of this version."""
    return Path(sys.prefix if prefix is None else prefix) / "share" / "kubewright"


def collection_dir(prefix: str | None = None) -> Path:
    """Return the directory of the collection ``kubewright.cluster`` that came with this package."""
    return collections_path(prefix) / _ROOT / "kubewright" / "cluster"


def make_importable() -> None:
    """Let ``import ansible_collections.kubewright.cluster`` find the collection.

    Within Ansible it is the one that Ansible has loaded already: that one runs. Everywhere else it
    is the one that came with this package.

    :raises CollectionError: there is none, or it is of another version than this package.
    """
    if f"{_ROOT}.kubewright" not in sys.modules:
        root = _root()
        root.__path__ = [str(collections_path() / _ROOT), *root.__path__]
    try:
        release = importlib.import_module(f"{_COLLECTION}.plugins.module_utils._cluster.release")
        found = str(release.VERSION)
    except ModuleNotFoundError as error:
        raise CollectionError(
            f"the collection kubewright.cluster {__version__}, which the package kubewright "
            f"{__version__} needs, is not in {collection_dir()} ({error}). Install the package "
            f"again: {sys.executable} -m pip install --force-reinstall --no-deps "
            f"kubewright=={__version__}"
        ) from error
    if found != __version__:
        place = Path(str(release.__file__)).parents[3]
        raise CollectionError(
            f"the collection kubewright.cluster is {found} ({place}), and the package kubewright "
            f"is {__version__} ({Path(__file__).parent}). Install both in the same version."
        )


def _root() -> ModuleType:
    """Return the package of all collections. Who has ansible-core alone has none; so it is made."""
    try:
        return importlib.import_module(_ROOT)
    except ModuleNotFoundError:
        made = ModuleType(_ROOT)
        made.__path__ = []
        sys.modules[_ROOT] = made
        return made
