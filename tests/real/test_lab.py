"""Labs (within the one that the tests run in): private inside, and nothing survives them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[2] / "script" / "lab"
DEADLINE_SECONDS = 60.0

# Everything that a lab may leave behind: a guest in its cgroup, a layer that is being written
# (FUSE server, loop mount in a nested namespace), a loop device by itself, links, namespaces,
# processes that have left their session. Says "ready" in the end.
MESS = """
set -e
cd "$VMORCH_STATE_DIR"
sleep $MARK & setsid sleep $MARK &
ip link add mess0 type bridge
ip netns add mess
mount -t tmpfs mess /mnt
truncate -s 1M plain.img && losetup -f plain.img
qemu-img create -q -f qcow2 layer.qcow2 64M
touch layer.raw
qemu-storage-daemon --blockdev driver=file,node-name=f,filename=layer.qcow2 \
  --blockdev driver=qcow2,node-name=q,file=f,discard=unmap \
  --export type=fuse,id=e,node-name=q,mountpoint=$PWD/layer.raw,writable=on &
until mountpoint -q layer.raw; do sleep .02; done
mkfs.ext4 -q layer.raw
mkdir root
unshare -m sh -c 'mount -o loop,noatime layer.raw root &&
  while :; do dd if=/dev/zero of=root/file bs=1M count=16 2>/dev/null; done' &
cat >guest.xml <<END
<domain type='qemu'><name>mess</name><memory unit='MiB'>64</memory>
<os><type machine='q35'>hvm</type></os><on_poweroff>destroy</on_poweroff></domain>
END
virsh -q create guest.xml
sleep .5
echo ready >"$VMORCH_LAB/ready"
sleep $MARK
"""


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAB, *command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        stdin=subprocess.DEVNULL,
    )


def root() -> Path:
    return Path(os.environ["VMORCH_LAB"]) / "labs"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def left_over(mark: str) -> list[str]:
    """Whatever of a lab can still be found, whoever holds it."""
    found = [f"cgroup {p}" for p in Path("/sys/fs/cgroup").glob("**/vmorch-lab-*")]
    found += [f"files {p}" for p in root().iterdir() if p.is_dir() and p.name[0] != "."]
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        if str(root()) in file.read_text():
            found.append(f"loop device {file.parts[3]}")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            mounts = (process / "mountinfo").read_text()
        except OSError:
            continue
        if mark in words or "guest=mess,debug-threads=on" in words:
            found.append(f"process {words}")
        if f"{root()}/" in mounts:
            found.append(f"mounts of {words}")
    return found


def settled(mark: str) -> list[str]:
    """The same, once what is killed has had the time to end."""
    deadline = time.monotonic() + 20
    while (found := left_over(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_the_command_s_exit_code_is_kept_and_its_words_are_its_own() -> None:
    done = run("sh", "-c", 'printf "%s|" "$@"; exit 42', "sh", "a b", "", "$HOME", "--keep")
    assert (done.returncode, done.stdout) == (42, "a b||$HOME|--keep|"), done.stderr


def test_inside_is_private() -> None:
    script = """
    set -e
    [ -z "$(ls "$VMORCH_STATE_DIR")" ] && [ -z "$(ls "$VMORCH_RUN_DIR")" ]
    [ "$(hostname)" = lab ] && [ "$(ls /sys/class/net)" = lo ]
    [ -z "$(virsh -q list --all)" ] && [ -z "$(ls /run/netns)" ]
    readlink /proc/self/ns/net
    nsenter --net="$VMORCH_OUTSIDE_NETNS" readlink /proc/self/ns/net
    """
    done = run("bash", "-c", script)
    assert done.returncode == 0, done.stderr
    inner, outside = done.stdout.split()
    asked = subprocess.run(
        ["nsenter", f"--net={os.environ['VMORCH_OUTSIDE_NETNS']}", "readlink", "/proc/self/ns/net"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert outside == asked.stdout.strip()
    assert inner not in (outside, str(Path("/proc/self/ns/net").readlink()))


def test_a_lookup_in_a_lab_fails_at_once() -> None:
    script = (
        "import socket\ntry: socket.getaddrinfo('host.invalid', 1)\nexcept OSError: print('no')"
    )
    done = run("timeout", "3", "python3", "-c", script)
    assert done.stdout == "no\n"


def test_orphans_are_reaped() -> None:
    script = """
    (setsid sh -c 'sleep 0.2' &) ; sleep 1
    ps -e -o stat= | grep -c '^Z' || true
    """
    assert run("bash", "-c", script).stdout.split() == ["0"]


def test_two_labs_with_the_same_names_do_not_meet(tmp_path: Path) -> None:
    xml = tmp_path / "guest.xml"
    xml.write_text(
        "<domain type='qemu'><name>same</name><memory unit='MiB'>64</memory>"
        "<os><type machine='q35'>hvm</type></os></domain>"
    )
    script = f"""
    set -e
    ip link add same0 type bridge
    virsh -q create --paused {xml}
    virsh -q schedinfo same --live --set global_quota=$0 >/dev/null
    touch {tmp_path}/$0; until [ -e {tmp_path}/$1 ]; do sleep 0.05; done
    virsh schedinfo same | sed -n 's/^global_quota *: //p'
    """
    labs = [
        subprocess.Popen([LAB, "bash", "-c", script, own, other], stdout=subprocess.PIPE, text=True)
        for own, other in (("20000", "30000"), ("30000", "20000"))
    ]
    assert [lab.communicate(timeout=DEADLINE_SECONDS)[0] for lab in labs] == ["20000\n", "30000\n"]


def test_a_termination_reaches_the_command(tmp_path: Path) -> None:
    script = f"trap 'exit 42' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    lab = subprocess.Popen([LAB, "bash", "-c", script])
    wait_for(tmp_path / "ready")
    lab.terminate()
    assert lab.wait(DEADLINE_SECONDS) == 42
    assert settled("-") == []


def test_state_is_kept_where_asked(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run("--keep", str(kept), "sh", "-c", "echo 1 >$VMORCH_STATE_DIR/x").returncode == 0
    done = run("sh", "-c", "cat $VMORCH_STATE_DIR/x", LAB_DIR=str(kept))
    assert done.stdout == "1\n"
    assert settled("-") == []


@pytest.mark.parametrize("victim", ["none", "lab", "unshare", "first process", "group"])
def test_nothing_survives(victim: str) -> None:
    mark = f"86{['none', 'lab', 'unshare', 'first process', 'group'].index(victim)}00"
    lab = subprocess.Popen(
        [LAB, "bash", "-c", MESS], env=os.environ | {"MARK": mark}, start_new_session=True
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(root().glob("*/ready")):
        assert lab.poll() is None, "the lab ended early"
        assert time.monotonic() < deadline, "the lab did not get ready"
        time.sleep(0.05)
    assert len(left_over(mark)) > 6  # the look does find what there is
    match victim:
        case "none":
            lab.terminate()
        case "lab":
            lab.kill()
        case "unshare":
            os.kill(child_of(lab.pid), signal.SIGKILL)
        case "first process":
            os.kill(child_of(child_of(lab.pid)), signal.SIGKILL)
        case "group":
            os.killpg(lab.pid, signal.SIGKILL)
    assert lab.wait(DEADLINE_SECONDS) != 0
    if victim in ("lab", "group"):
        assert run("true").returncode == 0  # the next one sweeps
    assert settled(mark) == []
