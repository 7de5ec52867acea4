"""A host's SSH key, made before its first boot, and the name that EC2 gives it."""

from __future__ import annotations


def new_host_key(address: str) -> tuple[bytes, str]:
    """Return a new ed25519 key as sshd reads it, and its public line."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, f"{public} root@{hostname(address)}"


def hostname(address: str) -> str:
    """Return the host name that EC2 gives to a private address."""
    return "ip-" + address.replace(".", "-")
