# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whose image it is, by ``ssh-keygen -Y`` (see ssh-keygen(1)).

A signature is over the image's bytes, in a namespace of its own, so that nothing that a key has
signed for another purpose counts. `allowed` makes the file of those who may sign.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import image_format

# Everybody whose key is allowed signs under the same name.
SIGNER = "kubewright-image"
LIMIT_BYTES = 64 << 10
VERIFY_SECONDS = 600
_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\r\n]*)?")
# ssh-keygen reads what was signed from its input.
_VERIFY = 'exec ssh-keygen -Y verify -f "$1/allowed" -I "$2" -n "$3" -s "$1/signature" < "$4"'


def allowed(signers: Sequence[str]) -> str:
    """The text of ssh-keygen's file of allowed signers. Raises `KubewrightError`."""
    lines = []
    for number, signer in enumerate(signers, 1):
        if not _KEY.fullmatch(signer.strip()):
            raise KubewrightError(
                f"Signer {number} ({signer.strip()[:40]!r}) is not a public SSH key. "
                "Write one line of a .pub file for each, such as 'ssh-ed25519 AAAA... builder'."
            )
        lines.append(f'{SIGNER} namespaces="{image_format.NAMESPACE}" {signer.strip()}\n')
    if not lines:
        raise KubewrightError(
            "Images that are downloaded from a URL must be signed, but no signers are "
            "set. Set system_volume_image_signers to the public keys of those who may sign."
        )
    return "".join(lines)


def verify(image: Path, signature: bytes, signers: Sequence[str], run: commands.Runner) -> None:
    """Return when one of *signers* has signed the bytes of *image*. Raises `KubewrightError`."""
    with tempfile.TemporaryDirectory(prefix="kubewright-") as place:
        Path(place, "allowed").write_text(allowed(signers), encoding="utf-8")
        Path(place, "signature").write_bytes(signature)
        words = ["sh", "-c", _VERIFY, "sh", place, SIGNER, image_format.NAMESPACE, str(image)]
        result = run(words, timeout=VERIFY_SECONDS)
    if result.rc == 0:
        return
    said = (result.stderr.strip() or result.stdout.strip() or "nothing").splitlines()[-1]
    if "not found" in said and result.rc == 127:
        raise KubewrightError(
            "This machine has no ssh-keygen, which verifies images. Install OpenSSH 8.2 "
            "or newer, or omit system_volume_image_url to transfer images over SSH."
        )
    raise KubewrightError(
        "The image's signature is not valid, so the image was removed: no key in "
        f"system_volume_image_signers has signed it (ssh-keygen says: {said}). Sign it again "
        "(kubewright image sign), or add the signer's key."
    )
