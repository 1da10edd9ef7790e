# SPDX-License-Identifier: Apache-2.0
"""From the version in the file to a patch release of the image catalogue."""

from __future__ import annotations

from kubewright.spec.rules import Unresolved


def resolve(version: str) -> str:
    """Return the patch release that "1.37" or "1.37.2" means, such as "1.37.2".

    :raises Unresolved: the catalogue has none.
    """
    # Imported late: each start of Ansible parses the inventory, and this package is for builds.
    from kubewright.image import Catalogue, ImageError

    try:
        return str(Catalogue.load().resolve(version))
    except ImageError as error:
        # Its texts are sentences; a problem's are parts of one.
        message = error.message.rstrip(".").replace("Kubernetes ", "Kubernetes version ", 1)
        raise Unresolved(message, error.remedy.rstrip(".")) from error
