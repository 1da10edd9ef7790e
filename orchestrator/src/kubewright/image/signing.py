# SPDX-License-Identifier: Apache-2.0
"""Signatures beside images, for nodes that fetch them: ``ssh-keygen -Y`` (see ssh-keygen(1))."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kubewright.agreed import image_format
from kubewright.image.errors import ImageError
from kubewright.image.paths import write_atomically


def signature_of(image: Path) -> Path:
    """Where the signature of an image lies: ``<digest>.squashfs.sig``."""
    return image.with_name(image.name + image_format.SUFFIX)


def sign(image: Path, key: Path) -> Path:
    """Sign the bytes of an image; replaces an earlier signature.

    ``key``: a private key, or a public one whose other half an agent has. A key with a passphrase
    is asked for at the terminal. Raises ImageError.
    """
    command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", image_format.NAMESPACE]
    try:
        with image.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, check=False)
    except FileNotFoundError as fault:
        remedy = "Install OpenSSH."
        if fault.filename == str(image):
            remedy = (
                "Build it again (kubewright image build), or remove images"
                " without a file (kubewright image gc)."
            )
        raise ImageError(f"There is no {fault.filename}.", remedy) from fault
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode(errors="replace").strip()
        raise _too_open(key, said) or ImageError(
            f"{image.name} could not be signed with {key}: {said}.",
            "Give a private SSH key that this user can read (ssh-keygen -t ed25519 creates one).",
        )
    write_atomically(signature_of(image), done.stdout)
    return signature_of(image)


def public_key(key: Path) -> str:
    """The line that nodes are given for ``key``: kind, key and comment. Raises ImageError."""
    if key.is_dir():
        raise ImageError(f"{key} is a directory, not a private key.", "Give a private SSH key.")
    command = ["ssh-keygen", "-y", "-f", str(key)]
    public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        # Beside a key as ssh-keygen makes it; asking it again would ask for the passphrase, too.
        return public.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        done = subprocess.run(command, capture_output=True, check=False)
    except (OSError, UnicodeDecodeError) as fault:
        raise ImageError(f"{public} can't be read: {fault}.", "Mend it.") from fault
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise _too_open(key, said) or ImageError(
            f"{key} is not a private key: {said}.", "Give a private SSH key."
        )
    return done.stdout.decode().strip()


def _too_open(key: Path, said: str) -> ImageError | None:
    """The error where ssh-keygen refuses a key because of its mode, else None."""
    if "UNPROTECTED PRIVATE KEY FILE" not in said:
        return None
    return ImageError(f"Other users can read the key {key}.", f"chmod 600 {key}")
