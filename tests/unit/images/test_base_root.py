"""The root of a base is shaped inside its directory, whatever links it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vmorch.errors import BuildFailed
from vmorch.images.base_definition import load_definition
from vmorch.images.base_root import inside, lay_out, remove
from vmorch.resources import data_dir


@pytest.mark.parametrize(
    ("link", "target", "asked", "found"),
    [
        ("lib", "usr/lib", "lib/x", "usr/lib/x"),
        ("lib", "/usr/lib", "lib/x", "usr/lib/x"),
        ("etc", "../../../outside", "etc/x", "outside/x"),
        ("a", "/b", "a/../c", "c"),
    ],
)
def test_links_lead_where_the_guest_would_go(
    tmp_path: Path, link: str, target: str, asked: str, found: str
) -> None:
    (tmp_path / link).symlink_to(target)
    assert inside(tmp_path, asked) == tmp_path / found


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BuildFailed, match="loop"):
        inside(tmp_path, "a/x")


def test_trees_are_laid_through_links_with_plain_modes(tmp_path: Path) -> None:
    guest, root = tmp_path / "guest", tmp_path / "root"
    for name, mode in (("sbin/tool", 0o700), ("etc/data", 0o600)):
        (guest / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        (guest / "one" / name).write_text(name)
        (guest / "one" / name).chmod(mode)
    (root / "etc").mkdir(parents=True)
    (root / "etc/data").symlink_to("/nowhere")
    definition = replace(
        load_definition(data_dir("images") / "tiny.yaml"),
        trees=("one",),
        links={"sbin": "usr/sbin"},
        directories=("usr/sbin",),
        mask=("noise.timer",),
        wants={"multi-user.target": ("ours.service",)},
    )
    lay_out(definition, root, guest)
    assert (root / "usr/sbin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/data").read_text() == "etc/data"
    assert not (root / "etc/data").is_symlink()
    assert (root / "etc/data").stat().st_mode & 0o777 == 0o644
    units = root / "etc/systemd/system"
    assert str((units / "noise.timer").readlink()) == "/dev/null"
    wanted = units / "multi-user.target.wants/ours.service"
    assert str(wanted.readlink()) == "/lib/systemd/system/ours.service"


def test_removal_takes_links_that_lead_nowhere_and_keeps_what_they_point_at(
    tmp_path: Path,
) -> None:
    (tmp_path / "etc/wants").mkdir(parents=True)
    (tmp_path / "etc/wants/ssh.service").symlink_to("/lib/absent")
    (tmp_path / "var/cache/deep").mkdir(parents=True)
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/file").touch()
    (tmp_path / "var/cache/link").symlink_to(tmp_path / "keep")
    remove(tmp_path, ["etc/wants/ssh.service", "var/cache/*", "absent/*"])
    assert list((tmp_path / "etc/wants").iterdir()) == []
    assert list((tmp_path / "var/cache").iterdir()) == []
    assert (tmp_path / "keep/file").exists()
