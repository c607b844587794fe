"""SSH keys, all ed25519 and all made on the host: a guest without KVM takes seconds for one, and
the host knows by itself which key an instance must show.

An instance's host key follows from a secret of the installation and the instance's UUID, so
nothing has to be remembered, and a daemon that was killed still pins the right key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from vmorch import durable
from vmorch.effects import Entropy
from vmorch.errors import GuestError

CLIENT_KEY = "id_ed25519"
HOST_SECRET = "host-secret"
_SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class HostKey:
    """`private` in OpenSSH's PEM form, `public` as one line without a comment."""

    private: str = field(repr=False)
    public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationKeys:
    """`client_key` is the file of the private key that vmorch shows to its guests,
    `client_public` the line for their authorized_keys."""

    client_key: Path
    client_public: str
    secret: bytes = field(repr=False)

    def host_key(self, instance_uuid: str) -> HostKey:
        """The host key of an instance; the same each time."""
        info = b"vmorch ssh host key 1 " + instance_uuid.encode()
        derivation = HKDF(algorithm=SHA256(), length=_SEED_BYTES, salt=None, info=info)
        return host_key(derivation.derive(self.secret))


def host_key(seed: bytes) -> HostKey:
    """The key pair of 32 random bytes."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return HostKey(_private_text(key).decode(), _public_line(key))


def installation_keys(keys_dir: Path, entropy: Entropy) -> InstallationKeys:
    """The installation's keys; what is missing is made, once, and readable for root alone.

    Raises:
        GuestError: the directory cannot be used, or a key in it is damaged.
    """
    client_key = keys_dir / CLIENT_KEY
    new_key = Ed25519PrivateKey.from_private_bytes(entropy.random_bytes(_SEED_BYTES))
    try:
        keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        client = load_ssh_private_key(_kept(client_key, _private_text(new_key)), password=None)
        secret = _kept(keys_dir / HOST_SECRET, entropy.random_bytes(_SEED_BYTES))
    except OSError as error:
        raise GuestError(f"The keys in {keys_dir} cannot be read or made: {error}.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _damaged(client_key) from error
    if not isinstance(client, Ed25519PrivateKey):
        raise _damaged(client_key)
    if len(secret) != _SEED_BYTES:
        raise _damaged(keys_dir / HOST_SECRET)
    return InstallationKeys(
        client_key=client_key, client_public=f"{_public_line(client)} vmorch", secret=secret
    )


def _kept(path: Path, content: bytes) -> bytes:
    """What `path` holds; `content` if it did not exist. A link never replaces a file, so of two
    that make it at once both go on with the same, and nobody sees half of it."""
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        durable.sync(temporary)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_bytes()


def _damaged(path: Path) -> GuestError:
    return GuestError(
        f"{path} is damaged.",
        hint="Restore it, or remove it: running guests then refuse vmorch until they are replaced.",
    )


def _private_text(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _public_line(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
