"""Refuses identity bundles whose values could not be carried into a guest unharmed.

Pure. Settings, /etc/hosts and resolv.conf are lines of words, the service's strings end in NUL:
a value that contains what ends it would turn into something else inside the guest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import PurePosixPath

from vmorch.errors import UsageError
from vmorch.guest.protocol import GuestFile, IdentityBundle
from vmorch.model.signals import signal_number

SEED_BYTES = 64
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\Z")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_INSTANCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_USER = re.compile(r"[^\s:/\0]+(?::[^\s:/\0]+)?\Z")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,16}\Z")  # of ext4; a virtio disk's serial may have 20
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f]+\Z")
OWN_PATHS = frozenset(
    {
        "/etc/hostname",
        "/etc/hosts",
        "/etc/machine-id",
        "/etc/resolv.conf",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
        "/root/.ssh/authorized_keys",
    }
)


def bundle(value: IdentityBundle) -> None:
    """Raises UsageError: the first malformed value, by its name."""
    _identity(value)
    _network(value)
    _access(value)
    _service(value)
    for mount in value.mounts:
        _matches("the label of a volume", mount.label, _LABEL)
        _plain_path(mount.target)
    seen: set[str] = set(OWN_PATHS)
    for file in value.files:
        _file(file, seen)
        seen.add(file.path)


def _identity(value: IdentityBundle) -> None:
    _matches("instance_id", value.instance_id, _INSTANCE_ID)
    _matches("cloud_instance_id", value.cloud_instance_id, _INSTANCE_ID)
    _matches("host_name", value.host_name, _HOST_NAME)
    _matches("machine_id", value.machine_id, _MACHINE_ID)
    if len(value.random_seed) != SEED_BYTES:
        raise UsageError(
            f"The random seed of {value.host_name} has {len(value.random_seed)} bytes; "
            f"it must have {SEED_BYTES}."
        )


def _network(value: IdentityBundle) -> None:
    _matches("mac", value.mac, _MAC)
    for name, address in (("address", value.address), ("gateway", value.gateway)):
        _address(name, address)
    for server in value.name_servers:
        _address("name_servers", server)
    if not 0 < value.prefix_length <= 32:
        raise UsageError(f"'prefix_length' is {value.prefix_length}; it must be 1 to 32.")
    if value.search_domain:
        _matches("search_domain", value.search_domain, _DOMAIN)
    for host, address in value.extra_hosts.items():
        _matches("extra_hosts", host, _DOMAIN)
        _address(f"extra_hosts.{host}", address)


def _access(value: IdentityBundle) -> None:
    for key in (*value.authorized_keys, value.ssh_host_public_key.strip()):
        _matches("an SSH public key", key, _ONE_LINE)
    _encodable("ssh_host_key", value.ssh_host_key)


def _service(value: IdentityBundle) -> None:
    for argument in value.argv:
        _nul_free("command", argument)
    for name, text in value.environment.items():
        if not name or "=" in name:
            raise UsageError(
                f"{name!r} cannot name an environment variable.",
                hint="A name has at least one character and no '='.",
            )
        _nul_free("environment", name)
        _nul_free(f"environment.{name}", text)
    if value.user:
        _matches("user", value.user, _USER)
    _matches("working_dir", value.working_dir, _ONE_LINE)
    if not value.working_dir.startswith("/"):
        raise UsageError(f"'working_dir' is {value.working_dir!r}; it must begin with '/'.")
    _satisfies(
        "stop_signal", value.stop_signal, "a signal", lambda: signal_number(value.stop_signal)
    )
    if value.stop_seconds < 1:
        # systemd takes 0 for "no limit".
        raise UsageError(f"'stop_seconds' is {value.stop_seconds}; it must be at least 1.")


def _file(file: GuestFile, seen: set[str]) -> None:
    _plain_path(file.path)
    if file.path in seen:
        raise UsageError(
            f"{file.path} would be written twice in the guest.",
            hint="Each path is for one secret or config, and vmorch's own files are taken: "
            f"{', '.join(sorted(OWN_PATHS))}.",
        )


def _plain_path(text: str) -> None:
    _matches("the path of a file", text, _ONE_LINE)
    path = PurePosixPath(text)
    plain = str(path) == text and len(path.parts) > 1 and ".." not in path.parts
    if not plain or path.parts[0] != "/":
        raise UsageError(
            f"{text!r} cannot be a path in a guest.",
            hint="Name an absolute path without '.', '..', '//' or a final '/'.",
        )


def _address(name: str, value: str) -> None:
    _satisfies(name, value, "an IP address", lambda: ip_address(value))


def _matches(name: str, value: str, form: re.Pattern[str]) -> None:
    if form.match(value) is None:
        raise UsageError(f"'{name}' is {value!r}, which is malformed.")
    _encodable(name, value)


def _nul_free(name: str, value: str) -> None:
    if "\0" in value:
        raise UsageError(f"'{name}' contains a NUL byte, which no process can be given.")
    _encodable(name, value)


def _encodable(name: str, value: str) -> None:
    """JSON can carry half of a surrogate pair, which no file can."""
    _satisfies(name, value, "text that can be written as UTF-8", value.encode)


def _satisfies(name: str, value: str, what: str, attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except ValueError as error:
        raise UsageError(f"'{name}' is {value!r}; it must be {what}.") from error
