"""Images as values: what a manifest says, and the run configuration a Dockerfile gave it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmorch.model.spec import HealthCheck, ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How an image's service runs unless the spec says otherwise (a Dockerfile's words).

    Neither `entrypoint` nor `command`: the guest's own enabled units are the service.
    `user` is a name or number, with an optional `:group`; empty means root.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = "/"
    exposed_ports: tuple[int, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    healthcheck: HealthCheck | None = None
    stop_signal: str = "SIGTERM"
    shell: tuple[str, ...] = ("/bin/sh", "-c")


def process_arguments(spec: ServiceSpec, image: RunConfig) -> tuple[str, ...]:
    """What runs: Compose's rules. A spec's `entrypoint` also sets the image's command aside.
    Empty: the guest's own enabled units are the service."""
    if spec.entrypoint is not None:
        return spec.entrypoint + (spec.command or ())
    command = spec.command if spec.command is not None else image.command
    return image.entrypoint + command


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One qcow2 file. `created_by` is the instruction or the base's name; `size_bytes` its own."""

    digest: str
    created_by: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BootConfig:
    """How a guest of the image is started.

    `kernel` and `initrd` are file names inside the image store (direct boot); `command_line`
    names the root disk and the console. All three are empty for an image that has a boot loader
    of its own. `supports` holds optional abilities of the guest
    contract: "agent", "ssh", "systemd", "cloud-init".
    """

    kernel: str
    initrd: str
    command_line: str
    supports: frozenset[str] = frozenset()
    least_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """A bootable disk. `digest` is that of everything it was made from, and names it.

    `layers` runs from the base (first) to the top (last); the top is what an instance's
    overlay is created over. `virtual_size_bytes` is shared by all layers of one base.
    """

    digest: str
    base: str
    layers: tuple[Layer, ...]
    boot: BootConfig
    run: RunConfig
    virtual_size_bytes: int
    created_at: float
