"""A running instance's guest once more, under QEMU alone: the same arguments, without libvirt."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.lab_daemon import LabDaemon

PIDFILES = Path("/run/libvirt/qemu")
# What libvirt and QEMU say to each other, which a QEMU without libvirt has nobody to say to.
_LIBVIRTS_OWN = ("-name", "-S", "-mon", "-add-fd", "-no-shutdown", "-sandbox")


@dataclass(frozen=True, slots=True)
class BareGuest:
    """`options` are QEMU's, in their order. `disk` is replaced by a new overlay over `layer` for
    each run; `address` is the one that the seed gives to the guest."""

    program: str
    options: tuple[tuple[str, ...], ...]
    disk: Path
    layer: Path
    address: str

    def command(self, *, host_port: int, port: int) -> list[str]:
        """Ready to run: with a fresh disk, and with `port` of the guest at `host_port`."""
        self.disk.unlink(missing_ok=True)
        create = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b")
        subprocess.run([*create, self.layer, self.disk], check=True)
        subnet = self.address.rpartition(".")[0]
        forward = f"hostfwd=tcp:127.0.0.1:{host_port}-{self.address}:{port}"
        network = f"user,id=hostnet0,net={subnet}.0/24,host={subnet}.1,{forward}"
        words = [word for option in self.options for word in option]
        return [self.program, *words, "-netdev", network]


def bare_guest(daemon: LabDaemon, environment: str, scratch: Path) -> BareGuest:
    """That of the environment's one instance; afterwards the instance may go."""
    (row,) = daemon.ps("-p", environment)
    directory = daemon.settings.instance_dir(environment, row["instance"])
    disk, seed = directory / "disk.qcow2", directory / "seed.iso"
    copied = {str(disk): str(scratch / "bare.qcow2"), str(seed): str(scratch / "bare-seed.iso")}
    shutil.copyfile(seed, copied[str(seed)])
    told = ("qemu-img", "info", "-U", "--output=json", disk)
    layer = json.loads(subprocess.check_output(told))["full-backing-filename"]
    program, *words = _command_line(row["domain"])
    return BareGuest(
        program=program,
        options=tuple(_alone(_options(words), copied)),
        disk=Path(copied[str(disk)]),
        layer=Path(layer),
        address=row["inner_address"],
    )


def _command_line(domain: str) -> list[str]:
    pid = (PIDFILES / f"{domain}.pid").read_text().strip()
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def _options(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Each option with its value, if it has one."""
    pending: tuple[str, ...] = ()
    for word in words:
        if word.startswith("-") and pending:
            yield pending
            pending = ()
        pending = (*pending, word)
    yield pending


def _alone(options: Iterator[tuple[str, ...]], copied: dict[str, str]) -> Iterator[tuple[str, ...]]:
    for name, *values in options:
        value = "".join(values)
        if name in (*_LIBVIRTS_OWN, "-netdev") or '"qom-type":"secret"' in value:
            continue
        if name == "-chardev":
            identifier = next(part for part in value.split(",") if part.startswith("id="))
            # The first word is the kind; where it leads to is libvirt's.
            yield name, f"null,{identifier}"
            continue
        for own, copy in copied.items():
            value = value.replace(own, copy)
        yield (name, value) if values else (name,)
