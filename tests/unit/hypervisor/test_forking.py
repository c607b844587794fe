"""A fork on a libvirt that is made up: what it leaves when it is cut off, and goes on from."""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from tests.unit.hypervisor.test_hypervisor_failures import Failure
from tests.unit.hypervisor.test_hypervisor_xml import CONFIG, SPARE, TCG
from vmorch.hypervisor.forking import fork
from vmorch.hypervisor.protocol import GuestConfig, GuestVolume
from vmorch.hypervisor.xml import domain_xml

PAUSED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED)
NO_ROOM = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)


class Domain:
    """`limits` counts how often some were set."""

    def __init__(self, uuid: str, state: tuple[int, int] = PAUSED) -> None:
        self.uuid, self.now, self.limits = uuid, state, 0
        self.plugged: list[str] = []
        self.destroyed = False

    def UUIDString(self) -> str:
        return self.uuid

    def name(self) -> str:
        return CONFIG.name

    def state(self) -> list[int]:
        return list(self.now)

    def destroy(self) -> None:
        self.destroyed = True

    def attachDeviceFlags(self, document: str, _flags: int) -> None:
        assert self.now == PAUSED
        source = ET.fromstring(document).find("source")
        assert source is not None
        self.plugged.append(source.get("file", ""))

    def setSchedulerParametersFlags(self, *_: object) -> None:
        self.limits += 1

    def setMemoryParameters(self, *_: object) -> None:
        self.limits += 1

    def resume(self) -> None:
        assert self.limits == 2
        self.now = RUNNING


class Connection:
    """With the domain that a call before has left, if any."""

    def __init__(self, domain: Domain | None = None) -> None:
        self.domain = domain
        self.read = b""

    def lookupByName(self, name: str) -> Domain:
        if self.domain is None or self.domain.destroyed:
            raise Failure(libvirt.VIR_ERR_NO_DOMAIN, f"no domain {name}")
        return self.domain

    def restoreFlags(self, path: str, _document: object, _flags: int) -> None:
        assert self.domain is None or self.domain.destroyed
        self.read = Path(path).read_bytes()
        self.domain = Domain(CONFIG.uuid)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuestConfig:
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)
    paths = [tmp_path / name for name in ("disk.qcow2", "seed.iso", "volume.qcow2")]
    for path in paths:
        path.touch()
    volume = GuestVolume(path=paths[2], serial="data")
    return replace(CONFIG, system_disk=paths[0], seed_disk=paths[1], volumes=(volume,))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    text = domain_xml(replace(CONFIG, linked=False), TCG, SPARE).encode() + b"\0"
    room = 4 * len(text)
    head = struct.pack("<16s5I", b"LibvirtQemudSave", 2, room, 1, 0, len(text)) + bytes(56)
    path = tmp_path / "ram"
    path.write_bytes(head + text.ljust(room, b"\0") + b"the stream")
    return path


def run(connection: Connection, config: GuestConfig, saved: Path) -> Domain:
    pipes = saved.parent / "pipes"
    fork(connection, config, saved, platform=TCG, spare_disk=SPARE, pipes=pipes)
    assert list(pipes.glob("*")) == []
    assert connection.domain is not None
    return connection.domain


def test_a_fork_runs_with_its_volumes_and_its_limits(config: GuestConfig, saved: Path) -> None:
    connection = Connection()
    domain = run(connection, config, saved)
    assert (domain.now, domain.plugged) == (RUNNING, [str(config.volumes[0].path)])
    assert connection.read.endswith(b"the stream")
    assert str(config.system_disk).encode() in connection.read
    assert (saved.parent / "pipes").stat().st_mode & 0o777 == 0o700


def test_one_that_was_cut_off_is_made_anew(config: GuestConfig, saved: Path) -> None:
    """As by a lost connection, perhaps before its volumes were plugged in."""
    left = Domain(config.uuid)
    domain = run(Connection(left), config, saved)
    assert left.destroyed
    assert (domain.now, domain.plugged) == (RUNNING, [str(config.volumes[0].path)])


@pytest.mark.parametrize("state", [RUNNING, NO_ROOM], ids=["runs", "its disk failed"])
def test_one_that_has_run_is_left_alone(
    config: GuestConfig, saved: Path, state: tuple[int, int]
) -> None:
    """Its disk has moved on from what the state knows."""
    left = Domain(config.uuid, state)
    assert run(Connection(left), config, saved) is left
    assert (left.now, left.destroyed) == (state, False)
