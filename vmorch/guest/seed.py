"""The seed disk: an ISO 9660 image with label `cidata`, for cloud-init (NoCloud) and
`vmorch-identity` alike.

Every seed has the same size: a fork finds its own seed in the place of its template's, and
a disk that changes its size under a running guest gives I/O errors.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

from pycdlib import PyCdlib

from vmorch import durable
from vmorch.errors import GuestError, UsageError
from vmorch.guest.bundle import bundle_tar
from vmorch.guest.protocol import IdentityBundle
from vmorch.guest.user_data import meta_data, user_data

LABEL = "cidata"
SEED_SIZE_BYTES = 1024 * 1024
MODE = 0o600


def seed_files(bundle: IdentityBundle) -> dict[str, bytes]:
    """What lies on the seed, by name. Pure but for the templates.

    An empty `vendor-data` keeps cloud-init from looking for one elsewhere.

    Raises:
        UsageError: a value of the bundle is malformed.
    """
    return {
        "meta-data": meta_data(instance_id=bundle.cloud_instance_id, host_name=bundle.host_name),
        "user-data": user_data(bundle.user_data),
        "vendor-data": b"",
        "vmorch.tar": bundle_tar(bundle),
    }


def seed_image(files: Mapping[str, bytes], *, owner: str) -> bytes:
    """The image, exactly SEED_SIZE_BYTES long. `owner` is whom messages name.

    Raises:
        UsageError: the files do not fit.
    """
    iso = PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for number, (name, content) in enumerate(files.items()):
        # ISO 9660's own names cannot hold these; Rock Ridge and Joliet, which Linux reads, do.
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            iso_path=f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
            file_mode=0o100400,
        )
    image = io.BytesIO()
    iso.write_fp(image)
    iso.close()
    size = image.tell()
    if size > SEED_SIZE_BYTES:
        raise UsageError(
            f"The seed of {owner} would have {size} bytes; there is room for {SEED_SIZE_BYTES}.",
            hint=f"Make 'cloud_init', the environment, secrets or configs "
            f"{size - SEED_SIZE_BYTES} bytes smaller, or copy large files into the image.",
        )
    return image.getvalue().ljust(SEED_SIZE_BYTES, b"\0")


def write_seed(path: Path, bundle: IdentityBundle) -> None:
    """Make the seed of `bundle` at `path`; a seed that is there is replaced at once or not at all.

    Raises:
        UsageError: the bundle is malformed or does not fit.
        GuestError: the file cannot be written.
    """
    image = seed_image(seed_files(bundle), owner=bundle.host_name)
    try:
        replace_file(path, image)
    except OSError as error:
        raise GuestError(
            f"The seed {path} cannot be written: {error.strerror}.",
            hint="Check the space and the rights of the state directory.",
            retryable=True,
        ) from error


def replace_file(path: Path, content: bytes, mode: int = MODE) -> None:
    """Write a file durably under another name, then rename it into place."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    durable.publish(temporary, path)
