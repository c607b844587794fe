"""The daemon's settings: a TOML file, then VMORCH_* variables; and where things lie on disk."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any

from vmorch.errors import UsageError

DEFAULT_CONFIG_FILE = Path("/etc/vmorch/config.toml")
DEFAULT_SOCKET = Path("/run/vmorch/api.sock")
SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path, without its NUL


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator may change. Each key is one of the TOML file, and, upper-cased
    behind VMORCH_, one of the environment, which wins.

    `accel` is auto, kvm or tcg. `libvirt_uri` may name a private libvirtd. `outer_pool` is a
    /16 from which each environment gets a /24 for the host's side. `http_address` is where
    routes are answered, by TLS at `https_port` (0: not at all), `publish_address` where published
    ports are that name no address of their own (Compose's own way is 0.0.0.0). `group` owns the
    API's socket when it exists.
    `outside_netns` is the path of the network namespace in which packages are fetched; empty
    means our own. A RUN step of a build may have `build_processes` processes and
    `build_memory_bytes` of memory (0: half of the host's). `warm_snapshots` is auto, or off: then
    none is made but by `vmorch snapshot create`. Beyond `snapshots_kept` those go that no declared
    service needs. Instances may reserve `cpu_overcommit` times the host's logical CPUs, as most of
    them idle most of the time, and its memory but for `kept_memory_bytes`; none is made while the
    disk of the state directory has less than `kept_disk_bytes` left. 4 times and 512 MiB are what
    OpenStack's Nova begins with, too. `concurrent_boots` is how many guests boot at once; 0 lets it
    follow the host's cores and whether guests run under KVM.
    Measures are taken every `metrics_tick_seconds` (1 to 10); `metrics_address` (such as
    127.0.0.1:9464) is where `/metrics` is answered beside the API's socket, to anybody who can
    connect; empty: nowhere.
    """

    state_dir: Path = Path("/var/lib/vmorch")
    run_dir: Path = Path("/run/vmorch")
    socket: Path = DEFAULT_SOCKET
    group: str = "vmorch"
    libvirt_uri: str = "qemu:///system"
    accel: str = "auto"
    http_address: str = "127.0.0.1"
    http_port: int = 8080
    https_port: int = 8443
    publish_address: str = "127.0.0.1"
    outer_pool: str = "10.213.0.0/16"
    inner_subnet: str = "10.212.0.0/24"
    concurrent_boots: int = 0
    cpu_overcommit: float = 4.0
    kept_memory_bytes: int = 512 * 1024**2
    kept_disk_bytes: int = 1024**3
    build_network: str = "nat"
    build_processes: int = 4096
    build_memory_bytes: int = 0
    outside_netns: str = ""
    warm_snapshots: str = "auto"
    snapshots_kept: int = 20
    metrics_tick_seconds: int = 2
    metrics_address: str = ""
    log_level: str = "info"

    @property
    def database(self) -> Path:
        return self.state_dir / "vmorch.db"

    @property
    def backups_dir(self) -> Path:
        """Copies of the database."""
        return self.state_dir / "backups"

    @property
    def route_endpoints(self) -> dict[str, tuple[str, int]]:
        """Addresses and ports at which routes are answered, by the key that gives the port."""
        ports = {"http_port": self.http_port, "https_port": self.https_port}
        return {key: (self.http_address, port) for key, port in ports.items() if port}

    @property
    def images_dir(self) -> Path:
        return self.state_dir / "images"

    @property
    def proxy_dir(self) -> Path:
        return self.state_dir / "proxy"

    @property
    def proxy_run_dir(self) -> Path:
        return self.run_dir / "proxy"

    @property
    def network_run_dir(self) -> Path:
        return self.run_dir / "network"

    @property
    def exec_dir(self) -> Path:
        return self.run_dir / "exec"

    @property
    def keys_dir(self) -> Path:
        return self.state_dir / "keys"

    @property
    def snapshots_dir(self) -> Path:
        """Warm snapshots."""
        return self.state_dir / "snapshots"

    @property
    def volumes_dir(self) -> Path:
        return self.state_dir / "volumes"

    def instance_dir(self, environment: str, instance: str) -> Path:
        """Disk, seed and logs of one instance. The logs outlive it."""
        return self.state_dir.joinpath("environments", environment, instance)


def load_settings(variables: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Read the settings.

    Raises:
        UsageError: a key is unknown or a value is not of its kind; the text names it.
    """
    variables = os.environ if variables is None else variables
    path = file or Path(variables.get("VMORCH_CONFIG", str(DEFAULT_CONFIG_FILE)))
    settings = Settings()
    known = {f.name for f in fields(Settings)}
    if path.exists():
        try:
            document = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"The settings file {path} cannot be read: {error}.", hint="Correct it."
            ) from error
        for key, value in document.items():
            if key not in known:
                raise UsageError(
                    f"{path} has an unknown key '{key}'.",
                    hint=f"Known keys: {', '.join(sorted(known))}.",
                )
            settings = replace(settings, **{key: _coerced(str(path), key, value)})
    for key in known:
        value = variables.get(f"VMORCH_{key.upper()}")
        if value is not None:
            settings = replace(settings, **{key: _coerced("the environment", key, value)})
    _check(settings)
    return settings


def _coerced(where: str, key: str, value: Any) -> Any:
    default = getattr(Settings(), key)
    try:
        if isinstance(default, Path):
            return Path(str(value))
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return float(value)
        return str(value)
    except ValueError as error:
        kind = "number" if isinstance(default, float) else "whole number"
        raise UsageError(f"'{key}' in {where} is not a {kind}: {value!r}.") from error


_LEAST: dict[str, float] = {
    "build_processes": 1,
    "build_memory_bytes": 0,
    "snapshots_kept": 0,
    "metrics_tick_seconds": 1,
    "concurrent_boots": 0,
    "cpu_overcommit": 0.1,
    "kept_memory_bytes": 0,
    "kept_disk_bytes": 0,
}
_LONGEST_TICK_SECONDS = 10
"""A rate is of two looks, of which one or two may fail in between."""


def _check(settings: Settings) -> None:
    if settings.accel not in {"auto", "kvm", "tcg"}:
        raise UsageError(f"'accel' is {settings.accel!r}; it must be auto, kvm or tcg.")
    if settings.build_network not in {"nat", "none"}:
        raise UsageError(f"'build_network' is {settings.build_network!r}; it must be nat or none.")
    for key, least in _LEAST.items():
        if not getattr(settings, key) >= least:  # NaN is not
            raise UsageError(f"'{key}' is {getattr(settings, key)}; it must be {least} or more.")
    if (tick := settings.metrics_tick_seconds) > _LONGEST_TICK_SECONDS:
        raise UsageError(
            f"'metrics_tick_seconds' is {tick}; it must be {_LONGEST_TICK_SECONDS} or less.",
            hint="Looks further apart say nothing of rates, and nothing could scale by them.",
        )
    if math.isinf(settings.cpu_overcommit):
        raise UsageError("'cpu_overcommit' is infinite; it must be a number.")
    if (value := settings.warm_snapshots) not in {"auto", "off"}:
        raise UsageError(f"'warm_snapshots' is {value!r}; it must be auto or off.")
    try:
        IPv4Address(settings.publish_address)
    except ValueError as error:
        raise UsageError(
            f"'publish_address' is {settings.publish_address!r}, which is no IPv4 address.",
            hint="127.0.0.1 is this host alone, 0.0.0.0 all of its addresses.",
        ) from error
    if settings.metrics_address:
        metrics_endpoint(settings.metrics_address)
    for key, prefix in (("outer_pool", 16), ("inner_subnet", 24)):
        text = getattr(settings, key)
        try:
            length = IPv4Network(text).prefixlen
        except ValueError as error:
            raise UsageError(f"'{key}' is {text!r}, which is no network: {error}.") from error
        if length != prefix:
            raise UsageError(f"'{key}' is {text!r}; it must be a /{prefix}.")
    # A session's socket, and one that HAProxy makes under a name for a while.
    named = (settings.exec_dir / ("x" * 21), settings.proxy_run_dir / ("x" * 24))
    longest = max(len(os.fsencode(path)) for path in (settings.socket, *named))
    if longest > SOCKET_PATH_LIMIT:
        raise UsageError(
            f"The socket path under {settings.run_dir} would have {longest} bytes; "
            f"the kernel allows {SOCKET_PATH_LIMIT}.",
            hint="Choose a shorter 'run_dir' and 'socket'.",
        )


def metrics_endpoint(text: str) -> tuple[str, int]:
    """`127.0.0.1:9464` or `[::1]:9464` as address and port.

    Raises:
        UsageError: it is neither.
    """
    address, colon, port = text.rpartition(":")
    try:
        number = int(port) if port.isascii() and port.isdigit() else 0
        host = str(ip_address(address.removeprefix("[").removesuffix("]")))
    except ValueError:
        host, number = "", 0
    if not colon or not 0 < number < 65536:
        raise UsageError(
            f"'metrics_address' is {text!r}, which is no address and port.",
            hint="Such as 127.0.0.1:9464, or empty for none.",
        )
    return host, number
