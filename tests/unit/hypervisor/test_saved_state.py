"""A saved guest's head read and written, and its XML as that of another guest."""

from __future__ import annotations

import errno
import os
import struct
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hypervisor.test_hypervisor_xml import CONFIG, IDENTITY, KVM, SPARE, TCG
from vmorch.errors import HypervisorError
from vmorch.hypervisor.fork_xml import fork_xml
from vmorch.hypervisor.platform import Platform
from vmorch.hypervisor.protocol import GuestVolume
from vmorch.hypervisor.saved_state import open_saved_state, poured, read_saved_state
from vmorch.hypervisor.xml import domain_xml

ROOM = 4096
STREAM = bytes(range(256)) * 5000
XML, COOKIE = "<domain>ü</domain>", b"<cookie/>"
PLACE = Path("/var/lib/vmorch/environments/demo/hello-9")
FORK = replace(
    CONFIG,
    name="abcdef-demo-hello_world-9",
    uuid="6a1f4c1e-3a35-4c57-9b3c-1f6b0a5f0c09",
    identity=replace(IDENTITY, ordinal=9),
    system_disk=PLACE / "disk.qcow2",
    seed_disk=PLACE / "seed.iso",
    mac="52:54:00:12:34:99",
    bridge="abcdef-br1",
    tap="abcdef-t1-9",
    service_log=PLACE / "service.log",
    console_log=PLACE / "console.log",
    linked=False,
)


def saved(
    path: Path, *, magic: bytes = b"LibvirtQemudSave", version: int = 2, compressed: int = 0
) -> Path:
    """As libvirt writes it: the cookie's offset is where the XML with its NUL ends."""
    text = XML.encode() + b"\0"
    head = struct.pack("<16s5I", magic, version, ROOM, 1, compressed, len(text)) + bytes(56)
    path.write_bytes(head + (text + COOKIE + b"\0").ljust(ROOM, b"\0") + STREAM)
    return path


def test_a_head_that_is_written_is_the_one_that_was_read(tmp_path: Path) -> None:
    file = saved(tmp_path / "ram")
    state = read_saved_state(file)
    assert (state.xml, state.cookie, state.was_running) == (XML, COOKIE, True)
    assert state.head() == file.read_bytes()[: state.stream_offset]


def test_another_xml_leaves_all_else_and_the_stream_where_they_are(tmp_path: Path) -> None:
    with open_saved_state(saved(tmp_path / "ram")) as (state, file):
        other = state.with_xml("<domain>of somebody else</domain>")
        with poured(other, file, tmp_path) as pipe:
            (tmp_path / "other").write_bytes(pipe.read_bytes())
    read = read_saved_state(tmp_path / "other")
    assert (read.xml, read.cookie) == ("<domain>of somebody else</domain>", COOKIE)
    assert (tmp_path / "other").read_bytes()[read.stream_offset :] == STREAM


def test_head_and_stream_are_of_one_file_whatever_comes_in_its_place(tmp_path: Path) -> None:
    path = saved(tmp_path / "ram")
    with open_saved_state(path) as (state, file):
        path.unlink()
        path.write_bytes(b"another one")
        with poured(state, file, tmp_path) as pipe:
            assert pipe.read_bytes().endswith(STREAM)


def test_a_reader_that_never_comes_or_leaves_holds_nobody_up(tmp_path: Path) -> None:
    with open_saved_state(saved(tmp_path / "ram")) as (state, file):
        with poured(state, file, tmp_path):
            pass
        with poured(state, file, tmp_path) as pipe, pipe.open("rb") as reader:
            assert reader.read(16) == b"LibvirtQemudSave"


@pytest.mark.parametrize("failing", ["splice", "write"])
def test_a_writer_that_fails_ends_its_reader_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """libvirt reads until there is an end, for as long as it takes."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, failing, fail)
    with (
        open_saved_state(saved(tmp_path / "ram")) as (state, file),
        pytest.raises(HypervisorError, match="Input/output error") as caught,
        poured(state, file, tmp_path) as pipe,
    ):
        got = pipe.read_bytes()
        assert len(got) == (state.stream_offset if failing == "splice" else 0)
        raise HypervisorError("libvirt found no guest in it.")
    assert "found no guest" in str(caught.value.__cause__)


def test_a_reader_that_comes_late_gets_all_of_what_fits_into_the_pipe(tmp_path: Path) -> None:
    path = saved(tmp_path / "ram")
    os.truncate(path, 92 + ROOM + 10)
    with open_saved_state(path) as (state, file), poured(state, file, tmp_path) as pipe:
        time.sleep(0.1)
        assert pipe.read_bytes() == path.read_bytes()


def test_an_xml_without_room_is_refused(tmp_path: Path) -> None:
    state = read_saved_state(saved(tmp_path / "ram"))
    with pytest.raises(HypervisorError, match="no room"):
        state.with_xml("x" * ROOM).head()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"magic": b"LibvirtQemudPart"}, "was not finished"),
        ({"magic": b"SomethingElseAll"}, "is no saved state"),
        ({"version": 3}, "its version is 3"),
        ({"compressed": 1}, "is compressed"),
    ],
)
def test_what_is_not_as_described_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    file = saved(tmp_path / "ram", **changes)  # type: ignore[arg-type]
    with pytest.raises(HypervisorError, match=said):
        read_saved_state(file)


@pytest.mark.parametrize("length", [0, 91, 92, 92 + ROOM - 1, 92 + ROOM])
def test_what_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    file = saved(tmp_path / "ram")
    os.truncate(file, length)
    with pytest.raises(HypervisorError, match="cut off"):
        read_saved_state(file)


@pytest.mark.parametrize("platform", [TCG, KVM], ids=["tcg", "kvm"])
def test_a_fork_is_described_as_a_guest_that_booted(platform: Platform) -> None:
    """Whatever of a domain is somebody's own must be the fork's, also what is added later."""
    template = domain_xml(replace(CONFIG, linked=False), platform, SPARE)
    fork = ET.canonicalize(fork_xml(template, FORK, SPARE), strip_text=True)
    assert fork == ET.canonicalize(domain_xml(FORK, platform, SPARE), strip_text=True)


def test_limits_and_what_libvirt_chose_are_not_taken_over() -> None:
    domain = ET.fromstring(domain_xml(CONFIG, TCG, SPARE))
    ET.SubElement(ET.SubElement(domain, "memtune"), "hard_limit").text = "1"
    ET.SubElement(ET.SubElement(domain, "cputune"), "global_quota").text = "1"
    for tag in ("serial", "console"):
        device = domain.find(f"devices/{tag}")
        assert device is not None
        ET.SubElement(device, "source", path="/dev/pts/7")
    disk = domain.find("devices/disk")
    assert disk is not None
    ET.SubElement(disk, "backingStore", type="file")
    fork = fork_xml(ET.tostring(domain, encoding="unicode"), FORK, SPARE)
    for gone in ("memtune", "cputune", "pts/7", "backingStore"):
        assert gone not in fork


def test_a_template_with_a_volume_is_refused() -> None:
    """Its memory knows a state of the volume that is not the volume's any more."""
    volume = GuestVolume(path=Path("/v/data.qcow2"), serial="data")
    template = domain_xml(replace(CONFIG, volumes=(volume,)), TCG, SPARE)
    with pytest.raises(HypervisorError, match="the disk vde cannot be forked"):
        fork_xml(template, FORK, SPARE)
