"""A save that is repeated, interrupted or fails: what is finished is never deleted, the rest is."""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.unit.hypervisor.test_hypervisor_failures import Failure
from tests.unit.hypervisor.test_hypervisor_xml import CONFIG, IDENTITY
from vmorch.errors import HypervisorError
from vmorch.hypervisor import domains
from vmorch.hypervisor.metadata import identity_element
from vmorch.model.names import Installation

OURS = Installation(IDENTITY.owner)
RUNNING = (libvirt.VIR_DOMAIN_RUNNING, 1)
SAVING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)
PARTIAL = b"LibvirtQemudPart"
WHOLE = (
    struct.pack("<16s5I", b"LibvirtQemudSave", 2, 64, 1, 0, 10).ljust(92, b"\0")
    + b"<domain/>".ljust(64, b"\0")
    + b"the stream"
)
NO_ROOM = Failure(libvirt.VIR_ERR_OPERATION_FAILED, "No space left on device")


class Guest:
    """libvirt's connection and its only domain, if there is one. A save fails with `failure`, and
    leaves the guest in the state `then`."""

    def __init__(
        self, state: tuple[int, int] | None, failure: Exception | None = None, then: Any = RUNNING
    ) -> None:
        self._state, self._failure, self._then = state, failure, then

    def lookupByName(self, name: str) -> Guest:
        if self._state is None:
            raise Failure(libvirt.VIR_ERR_NO_DOMAIN, f"no domain {name}")
        return self

    def metadata(self, *_: object) -> str:
        return ET.tostring(identity_element(IDENTITY), encoding="unicode")

    def state(self) -> list[int]:
        assert self._state is not None
        return list(self._state)

    def saveFlags(self, path: str, *_: object) -> None:
        Path(path).write_bytes(PARTIAL if self._failure else WHOLE)
        if self._failure:
            self._state = self._then
            raise self._failure


class Ending(Guest):
    """It ends before its memory is written."""

    def saveFlags(self, path: str, *_: object) -> None:
        self._state = None
        raise Failure(libvirt.VIR_ERR_NO_DOMAIN, "no domain")

    def state(self) -> list[int]:
        if self._state is None:
            raise Failure(libvirt.VIR_ERR_NO_DOMAIN, "no domain")
        return super().state()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "chown", lambda *_: None)
    return tmp_path / "ram"


def save(guest: Guest, path: Path) -> bool:
    return domains.save(guest, CONFIG.name, OURS, path)


def test_a_save_is_whole_and_roots_alone(path: Path) -> None:
    assert save(Guest(RUNNING), path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (WHOLE, 0o600)


def test_a_guest_that_is_gone_was_saved_if_its_file_is_finished(path: Path) -> None:
    path.write_bytes(WHOLE)
    assert save(Guest(None), path)
    assert path.read_bytes() == WHOLE
    path.write_bytes(PARTIAL.ljust(200, b"\0"))
    with pytest.raises(HypervisorError, match="not finished"):
        save(Guest(None), path)
    assert not path.exists()


def test_a_file_from_before_is_not_taken_for_that_of_a_guest_that_just_ended(path: Path) -> None:
    path.write_bytes(WHOLE)
    with pytest.raises(HypervisorError):
        save(Ending(RUNNING), path)
    assert not path.exists()


def test_a_save_under_way_is_left_alone(path: Path) -> None:
    path.write_bytes(PARTIAL)
    assert not save(Guest(SAVING), path)
    assert path.exists()


@pytest.mark.parametrize(("then", "stays"), [(RUNNING, False), (SAVING, True)])
def test_a_failed_save_leaves_no_file_unless_it_goes_on(
    then: tuple[int, int], stays: bool, path: Path
) -> None:
    with pytest.raises(libvirt.libvirtError):
        save(Guest(RUNNING, NO_ROOM, then), path)
    assert path.exists() is stays
