"""Images for real: layers on the made bases, what steps can and cannot do, and sudden death.

No guest boots here. Run as a program (IMAGES CONTEXT POINT [pause]) this file is a daemon that
builds, or imports, and kills itself at a fault point, for the tests of sudden death.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_bench import (
    CANARY,
    Bench,
    DieAt,
    PauseAt,
    bench_at,
    leftovers,
    service,
    step_groups,
    wait_until_gone,
)

from vmorch.errors import BuildFailed, InvalidSpec, NotFound, Refused, VmorchError
from vmorch.images import qcow2
from vmorch.images.protocol import BuildProgress, ImportRequest, StepState
from vmorch.images.writer import DEEPEST
from vmorch.model.image import ImageManifest


@pytest.fixture
def bench(images_dir: Path, tmp_path: Path) -> Iterator[Bench]:
    yield from bench_at(images_dir, tmp_path)


# --- what an image consists of


def test_files_owners_modes_and_configuration(bench: Bench) -> None:
    bench.file("app/main.py", "print(1)")
    bench.file("app/bin/tool").chmod(0o755)
    (bench.context / "app/link").symlink_to("bin/tool")
    bench.file("a.txt", "A")
    bench.file("b.txt", "B\n")
    manifest = bench.build(
        """FROM debian:12 AS made
RUN mkdir -p /out/deep && echo built > /out/deep/file && chown 33:33 /out/deep/file
FROM debian:12
ENV WHERE=/srv/app
WORKDIR $WHERE
COPY app .
COPY --chown=daemon:33 --chmod=640 a.txt renamed
COPY *.txt texts/
COPY --from=made /out /from
COPY --from=made /out/*/file /globbed/
COPY <<END /etc/made.conf
where=$WHERE
END
USER daemon
EXPOSE 8080
CMD ["python3", "main.py"]
"""
    )
    assert manifest.run.working_dir == "/srv/app"
    assert manifest.run.command == ("python3", "main.py")
    assert manifest.run.exposed_ports == (8080,)
    assert manifest.base == "debian-12"
    said = bench.output(
        """FROM app
USER root
RUN cd /srv/app && find . /from /globbed -printf '%p %y %m %u:%g %l\\n' | sort
RUN cat /etc/made.conf texts/b.txt /from/deep/file; id -un; pwd
"""
    )
    for line in (
        "./bin d 755 root:root ",
        "./bin/tool f 755 root:root ",
        "./link l 777 root:root bin/tool",
        "./main.py f 644 root:root ",
        "./renamed f 640 daemon:www-data ",
        "./texts/a.txt f 644 root:root ",
        "/from/deep/file f 644 www-data:www-data ",
        "/globbed/file f 644 www-data:www-data ",
        "where=/srv/app",
        "B",
        "built",
        "/srv/app",
    ):
        assert line.strip() in [said_line.strip() for said_line in said.splitlines()], said


def test_steps_run_as_user_shell_and_directory_say(bench: Bench) -> None:
    said = bench.output(
        """FROM debian:12
ARG V=1
ENV E=e
SHELL ["/bin/bash", "-eu", "-c"]
WORKDIR /work
USER daemon:33
RUN echo "$(id -un):$(id -gn) $PWD $V$E $HOME" $BASH_VERSION
USER 4242
RUN ["/bin/echo", "$E"]
RUN id -u
""",
        args={"V": "2"},
    )
    lines = said.splitlines()
    assert lines[0].startswith("daemon:www-data /work 2e /usr/sbin 5.")
    assert lines[1:] == ["$E", "4242"]


def test_tiny_takes_layers_too(bench: Bench) -> None:
    bench.file("hello")
    assert bench.output("FROM tiny\nCOPY hello /srv/\nRUN ls /srv") == "hello"


def test_archives_are_unpacked_by_add_alone(bench: Bench) -> None:
    with tarfile.open(bench.context / "t.tgz", "w:gz") as archive:
        archive.add(bench.file("in/file"), "deep/file")
    bench.file("plain.gz", b"\x1f\x8bno archive")
    said = bench.output(
        "FROM debian:12\nADD t.tgz /added\nADD plain.gz /added/\nCOPY t.tgz /copied/\n"
        "RUN cd / && find added copied -type f | sort"
    )
    assert said.splitlines() == ["added/deep/file", "added/plain.gz", "copied/t.tgz"]


def test_an_archive_that_is_unpacked_into_the_root_leaves_the_rest_alone(bench: Bench) -> None:
    root = member(".", type=tarfile.DIRTYPE, mode=0o700, uid=1000, gid=1000)
    names = ("etc/link", "etc/hard")
    with tarfile.open(bench.context / "a.tar", "w") as archive:
        for info in (root, *(member(name, size=3) for name in names)):
            archive.addfile(info, io.BytesIO(b"new"))
    bench.file("zeros", bytes(10240))
    bench.file("cut.tgz", gzip.compress(os.urandom(5000))[:60])
    bomb = tarfile.TarInfo("x")
    bomb.type, bomb.size = tarfile.XHDTYPE, 3 << 30
    bench.file("bomb.tar", bomb.tobuf(tarfile.GNU_FORMAT))
    said = bench.output(
        "FROM debian:12\nRUN echo old > /etc/one; echo old > /etc/two; ln -s one /etc/link; "
        "ln /etc/two /etc/hard\nADD a.tar /\nADD zeros cut.tgz /plain/\n"
        "RUN stat -c '%a %u:%g' /; cat /etc/one /etc/two; cat /etc/link /etc/hard; echo; ls /plain"
    )
    assert said.splitlines() == ["755 0:0", "old", "old", "newnew", "cut.tgz", "zeros"]
    with pytest.raises(BuildFailed, match="too much memory"):
        bench.build("FROM tiny\nADD bomb.tar /")


def test_merging_into_what_is_there(bench: Bench) -> None:
    bench.file("tree/lib/new")  # /lib is a symlink to usr/lib in the base
    bench.file("tree/tmp/new")
    bench.file("tree/etc/hostname", "mine")
    (bench.context / "tree/tmp").chmod(0o700)
    said = bench.output(
        "FROM debian:12\nRUN ln -s /etc/passwd /etc/pw\nCOPY tree /\nCOPY tree/tmp/new /etc/pw\n"
        "RUN readlink /lib; ls /usr/lib/new; stat -c %a /tmp; cat /etc/hostname; echo;"
        "test -L /etc/pw || echo replaced; grep -c root /etc/passwd"
    )
    assert said.splitlines() == [
        "usr/lib",
        "/usr/lib/new",
        "1777",
        "mine",
        "replaced",
        "1",
    ]


# --- the cache


def test_nothing_is_done_twice_and_a_change_is_never_missed(bench: Bench) -> None:
    bench.file("one", "1")
    text = "FROM tiny\nRUN echo a > /a\nCOPY one /\nRUN cat /one"
    first = bench.build(text)
    bench.told.clear()
    assert bench.build(text) == first
    assert bench.states()["RUN cat /one"] is StepState.CACHED
    bench.file("one", "2")
    bench.told.clear()
    changed = bench.build(text)
    assert changed.digest != first.digest
    states = bench.states()
    assert states["RUN echo a > /a"] is StepState.CACHED
    assert states["COPY one /"] is StepState.DONE
    assert "2" in [p.text for p in bench.told]
    bench.file("one", "1")
    assert bench.build(text).digest == first.digest


def test_without_the_cache_everything_is_made_anew_and_the_old_stays(bench: Bench) -> None:
    text = "FROM tiny\nRUN cat /proc/sys/kernel/random/uuid > /id"
    first = bench.build(text)
    again = bench.build(text, no_cache=True)
    assert again.digest != first.digest
    assert bench.build(text).digest == again.digest  # the newest counts
    old = bench.images / "layers" / f"{first.layers[-1].digest.removeprefix('sha256:')}.qcow2"
    assert old.exists()


def test_two_builds_at_once_do_the_work_once(bench: Bench) -> None:
    async def both() -> list[ImageManifest]:
        text = "FROM tiny\nRUN cat /proc/sys/kernel/random/uuid > /id; sleep 1"
        builds = [bench.build_async(text, name=name) for name in ("a", "b", "c")]
        return await asyncio.gather(*builds)

    manifests = bench.runner.run(both())
    assert len({manifest.digest for manifest in manifests}) == 1
    ends = [p.state for p in bench.told if p.step.startswith("RUN") and p.seconds > 0]
    assert sorted(ends) == [StepState.CACHED, StepState.CACHED, StepState.DONE]


def test_independent_stages_run_side_by_side_and_useless_ones_do_not(bench: Bench) -> None:
    bench.build(
        """FROM tiny AS one
RUN echo 1 > /one
FROM tiny AS two
RUN echo 2 > /two
FROM tiny AS unused
RUN false
FROM tiny
COPY --from=one /one /
COPY --from=1 /two /
RUN cat /one /two
"""
    )
    assert "RUN false" not in bench.states()
    started = [p.step for p in bench.told if p.state is StepState.STARTED]
    ended = [p.step for p in bench.told if p.state is StepState.DONE]
    assert started.index("RUN echo 2 > /two") < ended.index("RUN echo 1 > /one") + len(ended)
    with pytest.raises(BuildFailed):
        bench.build("FROM tiny AS one\nRUN false\nFROM tiny\nRUN true", target="one")


@pytest.mark.parametrize("harm", ["truncate", "header", "missing"])
def test_a_damaged_layer_is_made_again(bench: Bench, harm: str) -> None:
    text = "FROM tiny\nRUN echo x > /x\nRUN cat /x"
    first = bench.build(text)
    layer = bench.images / "layers" / f"{first.layers[1].digest.removeprefix('sha256:')}.qcow2"
    match harm:
        case "truncate":
            os.truncate(layer, layer.stat().st_size // 2)
        case "header":
            layer.chmod(0o600)
            layer.write_bytes(b"junk" + layer.read_bytes()[4:])
        case "missing":
            layer.unlink()
    with pytest.raises(VmorchError, match="damaged"):
        bench.runner.run(bench.service.ensure("app", bench.told.append))
    again = bench.build(text)
    bench.runner.run(bench.service.ensure("app", bench.told.append))
    if harm != "missing":  # the file of that name may be under somebody's disk
        assert again.layers[1].digest != first.layers[1].digest
        assert again.layers[2].digest != first.layers[2].digest


def test_layers_are_whole_and_nobody_may_write_them(bench: Bench) -> None:
    manifest = bench.build("FROM tiny\nRUN echo x > /x")
    for layer in manifest.layers:
        path = bench.images / "layers" / f"{layer.digest.removeprefix('sha256:')}.qcow2"
        assert path.stat().st_mode & 0o7777 == 0o444
        assert path.stat().st_uid == 0
        assert path.stat().st_size == layer.size_bytes
        subprocess.run(["qemu-img", "check", "-q", path], check=True)
        header = qcow2.read_header(path)
        assert header is not None
        assert "/" not in header.backing


def test_the_file_system_is_clean(bench: Bench, tmp_path: Path) -> None:
    bench.file("big", os.urandom(3_000_000))
    manifest = bench.build("FROM debian:12\nCOPY big /\nRUN rm /big; touch /x")
    disk, raw = tmp_path / "d.qcow2", tmp_path / "d.raw"
    bench.runner.run(bench.service.create_disk(manifest.digest, disk, None))
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    checked = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, text=True)
    raw.unlink()
    assert checked.returncode == 0, checked.stdout


# --- what a step can see and do


# Each attempt would be harmless if it succeeded.
ISOLATION = """FROM debian:12
RUN echo marker
RUN hostname; ls /proc | grep -c '^[0-9]'; tr '\\0' ' ' < /proc/1/environ; echo
RUN env | sort
RUN ls -l /proc/1/fd | awk '{print $NF}' | grep -v -e pipe: -e /dev/null -e '^[0-9]*$' || echo none
RUN grep CapEff /proc/self/status
RUN p=$(cat /proc/sys/kernel/core_pattern); echo "$p" > /proc/sys/kernel/core_pattern || echo no-sys
RUN test -e /proc/sysrq-trigger && echo h > /proc/sysrq-trigger || echo no-sysrq
RUN mknod /tmp/disk b $BLOCK && head -c 1 /tmp/disk || echo no-disk; rm -f /tmp/disk
RUN mount -t tmpfs none /mnt || echo no-mount
RUN cat $CANARY_FILE || echo no-file
RUN awk 'NR>2 {print $1}' /proc/net/dev
RUN ls /sys /run
RUN findmnt -rno TARGET,OPTIONS | grep -v -e nodev -e '^/dev/' -e '^/proc/' || echo all-nodev
"""


def test_a_step_sees_nothing_of_the_host(bench: Bench, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text(CANARY)
    os.environ["VMORCH_CANARY"] = CANARY
    device = Path("/").stat().st_dev
    text = ISOLATION.replace("$CANARY_FILE", str(canary))
    text = text.replace("$BLOCK", f"{os.major(device)} {os.minor(device)}")
    try:
        said = bench.output(text)
    finally:
        del os.environ["VMORCH_CANARY"]
    assert CANARY not in said
    lines = said.splitlines()
    assert lines[1] == "build"
    assert int(lines[2]) < 10
    assert "00000000a80425fb" in said
    assert {"no-sys", "no-sysrq", "no-disk", "no-mount", "no-file"} <= set(lines)
    assert "none" in lines
    assert "lo:" in lines
    assert "all-nodev" in lines
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names <= {
        "PATH",
        "HOME",
        "PWD",
        "LC_ALL",
        *(name for name in names if name.endswith(("_CERT", "_FILE", "_BUNDLE", "_CERTS", "INFO"))),
    }


def test_a_step_cannot_reach_what_its_first_process_is(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "python"  # never the real one, which a mistake would make set-uid root
    shutil.copy(sys.executable, own)
    monkeypatch.setattr(sys, "executable", str(own))
    before = own.stat()
    said = bench.output(
        "FROM tiny\n"
        "RUN for link in exe root cwd fd/1; do readlink /proc/1/$link && echo followed; done; "
        "chmod 4755 /proc/1/exe && echo changed; "
        "cat /proc/1/environ > /dev/null && echo read; echo done"
    )
    assert said.splitlines()[-1] == "done"
    assert not {"followed", "changed", "read"} & set(said.splitlines())
    assert (own.stat().st_mode, own.stat().st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


def test_a_step_uses_the_devices_of_the_host_and_cannot_change_them(bench: Bench) -> None:
    devices = [Path("/dev") / name for name in ("null", "zero", "full", "random", "urandom")]
    assert {device.stat().st_mode & 0o777 for device in devices} == {0o666}
    before = [device.stat().st_ctime_ns for device in devices]
    said = bench.output(  # the modes that they have: were it possible, nothing would be broken
        "FROM debian:12\n"
        "RUN for name in null zero full random urandom; do "
        "chmod 666 /dev/$name && echo changed; touch -c /dev/$name && echo touched; done; "
        "for file in /proc/kcore /proc/keys /proc/timer_list; do "
        "test -c $file && chmod 666 $file && echo changed; done; echo done\n"
        "RUN echo x > /dev/null && echo x >> /dev/null && echo written; "
        "echo x > /dev/full || echo full; "
        "head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c"
    )
    lines = said.splitlines()
    assert not {"changed", "touched"} & set(lines)
    assert {"done", "written", "full"} <= set(lines)
    assert lines[-2:] == ["3", "3"]
    assert [device.stat().st_ctime_ns for device in devices] == before


def test_a_step_reaches_no_listener_of_the_host(bench: Bench, tmp_path: Path) -> None:
    plain = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0vmorch-test")
    abstract.listen()
    python = (
        "import socket\\n"
        "for family, address in ((socket.AF_INET, ('127.0.0.1', PORT)), "
        "(socket.AF_UNIX, chr(0) + 'vmorch-test')):\\n"
        "    try: socket.socket(family).connect(address); print('reached')\\n"
        "    except OSError as error: print('refused')\\n"
    ).replace("PORT", str(plain.getsockname()[1]))
    script = python.replace("\\n", "\n")
    with plain, abstract:
        said = bench.output(f"FROM debian:12\nRUN <<END\n#!/usr/bin/python3\n{script}END\n")
    assert said.splitlines() == ["refused", "refused"]


# System calls that know no namespace, or make one in which the step would be root again.
NUMBERS = {
    "x86_64": {"keyctl": 250, "add_key": 248, "request_key": 249, "syslog": 103, "bpf": 321}
    | {"perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425}
    | {"unshare": 272, "clone": 56},
    "aarch64": {"keyctl": 219, "add_key": 217, "request_key": 218, "syslog": 116, "bpf": 280}
    | {"perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425}
    | {"unshare": 97, "clone": 220},
}
CALLS = """#!/usr/bin/python3
import ctypes, os, socket, threading
libc, buffer = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(4096)
known = {"unshare": (0x10000000,), "clone": (0x10000011, 0), "keyctl": (0, -4, 0)}
for name, number in NUMBERS.items():
    if not libc.syscall(number, *known.get(name, (3, buffer, 0))) and name == "clone":
        os._exit(0)
    print(name, os.strerror(ctypes.get_errno()))
    ctypes.set_errno(0)
try:
    socket.socket(40, socket.SOCK_STREAM)
except OSError as error:
    print("vsock", error.strerror)
thread = threading.Thread(target=lambda: print("threads work"))
thread.start()
thread.join()
"""


def test_a_step_has_no_user_namespace_no_keyring_and_no_vsock(bench: Bench) -> None:
    numbers = NUMBERS[os.uname().machine]
    script = CALLS.replace("NUMBERS", repr(numbers))
    said = bench.output(
        f"FROM debian:12\nRUN <<'END'\n{script}END\n"
        "RUN unshare -Ur true || echo no root; "
        "su daemon -s /bin/sh -c 'unshare -Ur true' || echo no"
    ).splitlines()
    refused = [f"{name} Operation not permitted" for name in (*numbers, "vsock")]
    assert said[: len(refused) + 1] == [*refused, "threads work"]
    assert said[-1] == "no"
    assert "no root" in said


def test_a_step_waits_for_no_flush(bench: Bench) -> None:
    """One that reached the kernel would say that there is no such descriptor."""
    flushes = "import os; os.fsync(999); os.fdatasync(999)"
    assert bench.output(f'FROM debian:12\nRUN python3 -c "{flushes}"; echo $?') == "0"


def test_nothing_of_a_step_stays_in_the_image(bench: Bench) -> None:
    bench.build("FROM debian:12\nRUN echo a > /a; sleep 1000 & setsid sleep 1000 & true")
    said = bench.output(
        "FROM app\nRUN cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep '[s]leep 1000' || echo none",
        name="look",
    )
    assert said == "none"
    inside = mounted_listing(bench)
    base = mounted_listing(bench, "debian:12")
    assert inside - base == {"a"}
    assert base - inside == set()


def mounted_listing(bench: Bench, reference: str = "app") -> set[str]:
    """Every path of an image, read in another way than the builder's."""

    async def dump() -> set[str]:
        manifest = await bench.service.ensure(reference, bench.told.append)
        disk, raw = bench.images.parent / "l.qcow2", bench.images.parent / "l.raw"
        disk.unlink(missing_ok=True)
        await bench.service.create_disk(manifest.digest, disk, None)
        subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
        names = set()
        for folder in ("/", "/etc", "/dev", "/proc", "/run", "/usr/sbin", "/var", "/tmp"):
            listed = subprocess.run(
                ["debugfs", "-R", f"ls -p {folder}", raw], capture_output=True, text=True
            )
            rows = (line.split("/") for line in listed.stdout.splitlines() if line)
            names |= {f"{folder}/{row[5]}".lstrip("/") for row in rows if len(row) > 5 and row[5]}
        raw.unlink()
        return {name for name in names if not name.endswith(("/.", "/.."))} - {".", ".."}

    return bench.runner.run(dump())


def test_packages_do_not_start_services(bench: Bench) -> None:
    said = bench.output("FROM debian:12\nRUN policy-rc.d x start; echo $?")
    assert said == "101"


# --- what a COPY cannot do


def test_links_in_an_image_lead_nowhere_else(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text(CANARY)
    bench.file("new", "overwritten")
    said = bench.output(
        f"""FROM debian:12 AS evil
RUN ln -s {outside} /door && ln -s ../../../../../../{outside} /up && mkdir -p /x \\
 && ln -s {outside}/file /x/file && ln -s /proc/1/root /magic
FROM evil
RUN mkdir -p {outside}
COPY new /door/file
COPY new /up/other
COPY --from=evil /x /y
RUN cat {outside}/file; echo; readlink /y/file
"""
    )
    assert said.splitlines() == ["overwritten", f"{outside}/file"]
    assert sorted(p.name for p in outside.iterdir()) == ["file"]
    assert (outside / "file").read_text() == CANARY
    with pytest.raises(BuildFailed):
        bench.build(f"FROM app AS evil\nFROM tiny\nCOPY --from=evil /magic{outside}/none /y")
    with pytest.raises(BuildFailed, match="not in the image"):
        bench.build(f"FROM debian:12 AS evil\nFROM tiny\nCOPY --from=evil {outside}/file /y")


def member(name: str, **attributes: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("members", "refused"),
    [
        ([member("../../up", size=1)], True),
        ([member("a/../../up", size=1)], True),
        ([member("l", type=tarfile.LNKTYPE, linkname="../../etc/passwd")], True),
        ([member("/absolute", size=1)], False),
        (
            [
                member("door", type=tarfile.SYMTYPE, linkname="OUTSIDE"),
                member("door/file", size=1),
            ],
            False,
        ),
        ([member("h", type=tarfile.LNKTYPE, linkname="OUTSIDE/file")], True),
        ([member("disk", type=tarfile.BLKTYPE, devmajor=7, devminor=0)], False),
    ],
    ids=lambda value: value[0].name if isinstance(value, list) else "",
)
def test_archives_lead_nowhere_else(
    bench: Bench, tmp_path: Path, members: list[tarfile.TarInfo], refused: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text(CANARY)
    with tarfile.open(bench.context / "a.tar", "w") as archive:
        for info in members:
            info.linkname = info.linkname.replace("OUTSIDE", str(outside))
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    text = f"FROM debian:12\nRUN mkdir -p {outside}\nADD a.tar /added/\nRUN true"
    if refused:
        with pytest.raises(BuildFailed):
            bench.build(text)
    else:
        bench.build(text)
    assert (outside / "file").read_text() == CANARY
    assert sorted(p.name for p in tmp_path.iterdir()) == ["context", "images", "outside"]


# --- what goes wrong


def test_a_failing_step_says_where_and_shows_its_end(bench: Bench) -> None:
    with pytest.raises(BuildFailed) as caught:
        bench.build("FROM tiny\nRUN true\n\nRUN echo it broke; exit 7")
    assert "code 7" in caught.value.message
    assert (caught.value.file, caught.value.line) == ("Dockerfile", 4)
    assert caught.value.output == "it broke"
    assert bench.states()["RUN echo it broke; exit 7"] is StepState.FAILED
    with pytest.raises(NotFound):
        bench.runner.run(bench.service.ensure("app", bench.told.append))


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ('RUN ["/none"]', "code 127"),
        ("USER nobodyhere\nRUN true", "code 126"),
        ("RUN kill -9 $$", "code 137"),
        ("COPY --chown=nobodyhere one /", "no user 'nobodyhere'"),
        ("RUN echo > /f\nCOPY one /f/", "not a directory"),
        ("RUN mkdir -p /d/one\nCOPY one /d", "is a directory"),
        ("COPY --from=tiny /none /", "not in the image"),
        ("RUN dd if=/dev/zero of=/etc/hosts bs=1M count=100", "code 1"),
        (
            "RUN n=0; while [ $n -lt 900 ]; do mkdir d; cd d; n=$((n + 1)); done\n"
            "FROM tiny\nCOPY --from=0 /d /x",
            "within each other",
        ),
    ],
)
def test_what_can_go_wrong_in_a_step(bench: Bench, text: str, fragment: str) -> None:
    bench.file("one")
    with pytest.raises(BuildFailed, match=fragment):
        bench.build(f"FROM tiny\n{text}")


def test_mistakes_come_before_any_step(bench: Bench) -> None:
    bench.file("one")
    with pytest.raises(InvalidSpec) as caught:
        bench.build("FROM tiny\nRUN touch /x\nCOPY onne /\nEXPOSE x\nCOPY --chmod=9 one /")
    assert [p.line for p in caught.value.problems] == [3, 4, 5]
    assert "did you mean 'one'" in caught.value.message
    assert "RUN touch /x" not in bench.states()
    for text, fragment in (
        ("FROM nothing", "no image 'nothing'"),
        ("ARG X\nFROM $X", "is empty"),
        ("FROM scratch", "needs a kernel"),
        ("FROM --platform=linux/riscv64 tiny", "riscv64"),
        ("FROM tiny\nCOPY --from=nothing / /", "no image 'nothing'"),
    ):
        with pytest.raises(InvalidSpec, match=fragment.replace("$", ".")):
            bench.build(text)
    with pytest.raises(InvalidSpec, match="did you mean 'build'"):
        bench.build("FROM tiny AS build", target="biuld")
    with pytest.raises(Refused):
        bench.build("FROM tiny", name="debian:12")


def test_a_step_that_takes_too_long_is_ended(bench: Bench) -> None:
    bench.service = service(bench.images, step_limit_seconds=2.0)
    with pytest.raises(BuildFailed, match="more than 2 s"):
        bench.build("FROM tiny\nRUN echo begun; sleep 1000")


FORKS = """#!/usr/bin/python3
import os, time
for _ in range(1000):
    if not os.fork():
        time.sleep(600)
"""
FILLS = "python3 -c 'bytearray(1 << 30)'"
TMPFS = "--mount=type=tmpfs,target=/t dd if=/dev/zero of=/t/x bs=1M count=400"


def test_a_step_has_a_bound_of_processes_and_of_memory(bench: Bench) -> None:
    with pytest.raises(BuildFailed, match="code 1: it needed more than 200 processes at once"):
        bench.build(f"FROM debian:12\nRUN <<'END'\n{FORKS}END\n")
    with pytest.raises(BuildFailed, match="was killed: it needed more than 256 MiB of memory"):
        bench.build(f"FROM debian:12\nRUN {FILLS}")
    with pytest.raises(BuildFailed, match="it needed more than 256 MiB of memory"):
        bench.build(f"FROM debian:12\nRUN {TMPFS}")
    said = bench.output(
        "FROM debian:12\nRUN dd if=/dev/zero of=/dev/shm/x bs=1M || du -m /dev/shm/x"
    )
    assert said.splitlines()[-1].split() == ["64", "/dev/shm/x"]
    # What lies in the cache of files is given up for what is needed.
    said = bench.output(
        "FROM debian:12\nRUN dd if=/dev/zero of=/big bs=1M count=600 && sha256sum /big && rm /big\n"
        f"RUN (true | {FILLS}) || echo went on"
    )
    assert "went on" in said.splitlines()
    assert said.splitlines()[-1] == "(it needed more than 256 MiB of memory, and went on without)"


def test_a_step_without_control_groups_is_done_all_the_same(bench: Bench) -> None:
    bench.service = service(bench.images, step_groups=None)
    assert bench.output("FROM tiny\nRUN cat /proc/self/oom_score_adj") == "500"


def test_a_cancelled_build_leaves_nothing(bench: Bench) -> None:
    async def cancelled() -> None:
        begun = asyncio.Event()
        request = await bench.send("FROM tiny\nRUN echo begun; sleep 1000")

        def hear(progress: BuildProgress) -> None:
            if progress.text == "begun":
                begun.set()

        build = asyncio.create_task(bench.service.build(request, hear))
        await begun.wait()
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build

    bench.runner.run(cancelled())


def test_disks(bench: Bench, tmp_path: Path) -> None:
    manifest = bench.build("FROM tiny\nRUN true")
    disk = tmp_path / "instance/disk.qcow2"
    bench.runner.run(
        bench.service.create_disk(manifest.digest, disk, manifest.virtual_size_bytes + (1 << 30))
    )
    header = qcow2.read_header(disk)
    top = f"{manifest.layers[-1].digest.removeprefix('sha256:')}.qcow2"
    assert header == qcow2.Header(
        manifest.virtual_size_bytes + (1 << 30), str(bench.images / "layers" / top)
    )
    before = disk.stat().st_ino
    bench.runner.run(bench.service.create_disk(manifest.digest, disk, None))
    assert disk.stat().st_ino == before
    with pytest.raises(Refused):
        bench.runner.run(bench.service.create_disk(manifest.digest, tmp_path / "small", 1 << 20))
    kernel, initrd = bench.service.boot_files(manifest)
    assert kernel.is_file()
    assert initrd.is_file()
    row = next(row for row in bench.runner.run(bench.service.images()) if "app" in row.names)
    assert row.own_bytes < row.size_bytes


# --- sudden death

PHASES = ("begin", "exported", "mounted", "written", "unmounted", "closed", "publish", "published")
POINTS = (*(f"image.layer.{phase}" for phase in PHASES), "image.manifest")
DEADLY = "FROM debian:12\nCOPY big /\nRUN dd if=/dev/zero of=/z bs=1M count=64; sleep 0.2\n"
# What has to be built for points that not every build comes to.
LESS_COMMON = {
    "image.content": "FROM tiny AS made\nCOPY big /\nFROM tiny\nCOPY --from=made /big /\n",
    "image.layer.flattened": "FROM tiny\n" + "".join(f"RUN : {n}\n" for n in range(DEEPEST + 1)),
}
# The first layer is a COPY, the second a RUN: with mounts, namespaces and groups of its own.
OF_RUN = tuple(f"image.layer.{phase}@2" for phase in ("mounted", "written", "unmounted", "closed"))
POINTS = (*POINTS, *LESS_COMMON, *OF_RUN)


def start(bench: Bench, point: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, str(bench.images), str(bench.context), point]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def builds_after_all(bench: Bench, point: str = "") -> None:
    wait_until_gone(bench.images)
    bench.service = service(bench.images)
    bench.runner.run(bench.service.sweep())
    assert list((bench.images / "tmp").iterdir()) == []
    assert step_groups(bench.images) == []
    manifest = bench.build(LESS_COMMON.get(point, DEADLY))
    bench.runner.run(bench.service.ensure("app", bench.told.append))
    for layer in manifest.layers:
        path = bench.images / "layers" / f"{layer.digest.removeprefix('sha256:')}.qcow2"
        subprocess.run(["qemu-img", "check", "-q", path], check=True)


@pytest.mark.parametrize("point", POINTS)
def test_the_daemon_is_killed_at(bench: Bench, point: str) -> None:
    bench.file("big", os.urandom(20_000_000))
    process = start(bench, point)
    assert process.wait(timeout=60) == -signal.SIGKILL
    builds_after_all(bench, point)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_the_daemon_is_killed_while_a_command_writes(bench: Bench, delay: float) -> None:
    bench.file("big", os.urandom(20_000_000))
    process = start(bench, "")
    wait_for_command(bench, b"dd if=/dev/zero")
    time.sleep(delay)
    process.kill()
    process.wait()
    builds_after_all(bench)


@pytest.mark.parametrize("program", ["qemu-storage-daemon", "vmorch.images.worker.main"])
def test_a_helper_is_killed_under_the_daemon(bench: Bench, program: str) -> None:
    def murder() -> None:
        os.kill(wait_for_process(bench, program), signal.SIGKILL)

    murderer = threading.Thread(target=murder)
    murderer.start()
    with pytest.raises(BuildFailed):
        bench.build("FROM debian:12\nRUN while :; do echo x >> /x; sync; done")
    murderer.join()
    wait_until_gone(bench.images)


def wait_for_process(bench: Bench, program: str) -> int:
    """The id of a helper that has been working for a moment on a step of ours."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()
                is_ours = str(bench.images).encode() in command or b"main(" in command
                works = (process / "task" / process.name / "children").read_text()
                is_busy = bool(works) or "storage" in program  # one worker waits for the next job
                if program.encode() in command and is_ours and is_busy:
                    wait_for_command(bench, b"while :; do echo x")
                    return int(process.name)
        time.sleep(0.01)
    raise AssertionError(f"no {program} started")


def wait_for_command(bench: Bench, text: bytes) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                if text in command and process.name != str(os.getpid()):
                    return
        time.sleep(0.005)
    raise AssertionError("the command did not start")


def killed_as_a_whole(bench: Bench, *words: str, ready: Callable[[Any], None]) -> None:
    """A lab's end: PID 1 of a PID namespace dies, and the kernel kills the rest together."""
    command = ["unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, __file__, str(bench.images), str(bench.context), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    ready(process)
    process.kill()
    process.communicate()


def reached(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"reached\n"


@pytest.mark.parametrize("point", POINTS)
def test_all_is_killed_at(bench: Bench, point: str) -> None:
    bench.file("big", os.urandom(20_000_000))
    killed_as_a_whole(bench, point, "pause", ready=reached)
    builds_after_all(bench, point)


def test_all_is_killed_while_a_command_writes(bench: Bench) -> None:
    bench.file("big", os.urandom(20_000_000))
    killed_as_a_whole(bench, "", ready=lambda _: wait_for_command(bench, b"dd if=/dev/zero"))
    builds_after_all(bench)


def test_the_daemon_is_killed_while_a_base_is_made(tmp_path: Path) -> None:
    images, context = tmp_path / "images", tmp_path / "context"
    images.mkdir()
    context.mkdir()
    bench = Bench(images, context)
    process = start(bench, "")
    wait_for_command(bench, b"mmdebstrap")
    time.sleep(0.5)  # until it has processes and mounts of its own
    assert leftovers(images) != []
    process.kill()
    process.wait()
    wait_until_gone(images)
    bench.runner.run(bench.service.sweep())
    assert [path for path in images.rglob("*") if not path.is_dir()] == []
    bench.runner.close()


# What can be imported, though nothing of it would boot.
IMPORTABLE = """FROM debian:12
RUN mkdir -p /lib/modules/1.0 && head -c 514 /dev/zero > /boot/vmlinuz-1.0 \
  && printf HdrS >> /boot/vmlinuz-1.0 && echo x > /boot/initrd.img-1.0
"""
IMPORT_POINTS = ("image.import.converted", "image.layer.exported", "image.import.shelved")


@pytest.mark.parametrize("whole", [False, True], ids=["daemon", "all"])
@pytest.mark.parametrize("point", IMPORT_POINTS)
def test_an_import_is_killed_at(bench: Bench, point: str, whole: bool) -> None:
    made = bench.build(IMPORTABLE)
    top = bench.images / "layers" / f"{made.layers[-1].digest.removeprefix('sha256:')}.qcow2"
    disk = bench.context / "disk"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", top, disk], check=True)
    if whole:
        killed_as_a_whole(bench, point, "pause", ready=reached)
    else:
        assert start(bench, point).wait(timeout=120) == -signal.SIGKILL
    wait_until_gone(bench.images)
    bench.service = service(bench.images)
    bench.runner.run(bench.service.sweep())
    assert list((bench.images / "tmp").iterdir()) == []
    assert list((bench.images / "bases").glob("import-*")) == []
    bench.runner.run(imported(bench))
    assert bench.output("FROM cloud\nRUN ls /boot/vmlinuz-1.0") == "/boot/vmlinuz-1.0"


async def imported(bench: Bench) -> ImageManifest:
    """The file "disk" of the context as the image "cloud"."""
    disk, copy = bench.context / "disk", bench.images / "tmp" / "blob-disk"
    with disk.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    shutil.copyfile(disk, copy)
    await bench.service.put_blob(digest, copy)
    request = ImportRequest(name="cloud", file="disk", digest=digest)
    return await bench.service.import_disk(request, bench.told.append)


async def _as_daemon(images: Path, context: Path, faults: DieAt) -> None:
    bench = Bench(images, context)
    bench.service = service(images, faults)
    await bench.service.sweep()
    if (context / "disk").exists():
        await imported(bench)
    else:
        await bench.build_async(LESS_COMMON.get(faults.point, DEADLY))


if __name__ == "__main__":
    point, pauses = sys.argv[3], sys.argv[4:] == ["pause"]
    faults = PauseAt(point) if pauses else DieAt(point)
    asyncio.run(_as_daemon(Path(sys.argv[1]), Path(sys.argv[2]), faults))
