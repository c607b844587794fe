"""What definitions of bases may say, and what of them names a base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vmorch.errors import UsageError
from vmorch.images.base_definition import load_definition, load_definitions
from vmorch.images.base_packages import sources
from vmorch.resources import data_dir


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    copy = tmp_path / "images"
    shutil.copytree(data_dir("images"), copy)
    return copy


def test_the_shipped_bases_say_what_the_contract_promises() -> None:
    bases = load_definitions(data_dir("images"))
    assert set(bases) == {"debian-12", "debian-13", "tiny"}
    assert bases["tiny"].supports == {"agent"}
    for name in ("debian-12", "debian-13"):
        assert bases[name].supports == {"agent", "ssh", "systemd", "cloud-init"}
    for base in bases.values():
        assert "console=ttyS0" in base.command_line.split()
        assert {"virtio_blk", "virtio_net", "virtio_console"} <= set(base.modules)


@pytest.mark.parametrize(
    ("changed", "bases"),
    [
        ("guest/tiny/etc/inittab", {"tiny"}),
        ("guest/debian/etc/fstab", {"debian-12", "debian-13"}),
        ("tiny.yaml", {"tiny"}),
        ("debian-12.yaml", {"debian-12", "debian-13"}),
        ("debian-13.yaml", {"debian-13"}),
    ],
)
def test_a_recipe_changes_with_its_own_files_only(
    definitions: Path, changed: str, bases: set[str]
) -> None:
    before = load_definitions(definitions)
    with (definitions / changed).open("a") as file:
        file.write("# changed\n")
    after = load_definitions(definitions)
    assert {name for name in before if after[name].recipe != before[name].recipe} == bases


def test_a_base_that_is_like_another_adds_to_its_lists_and_replaces_the_rest() -> None:
    bases = load_definitions(data_dir("images"))
    older, newer = bases["debian-12"], bases["debian-13"]
    assert (older.suite, newer.suite) == ("bookworm", "trixie")
    assert newer.packages == (*older.packages, "e2fsprogs")
    assert newer.mask[: len(older.mask)] == older.mask
    assert "tmp.mount" in set(newer.mask) - set(older.mask)
    assert newer.links.items() > older.links.items()
    assert newer.wants == older.wants
    assert newer.command_line == older.command_line
    assert not set(newer.aliases) & set(older.aliases)


def test_bases_that_are_like_each_other_are_refused(definitions: Path) -> None:
    with (definitions / "debian-12.yaml").open("a") as file:
        file.write("like: debian-13\n")
    with pytest.raises(UsageError, match="goes round in a circle: debian-13, debian-12"):
        load_definition(definitions / "debian-13.yaml")


@pytest.mark.parametrize(
    "changed",
    [
        "guest/common/usr/lib/vmorch/vmorch-identity",
        "guest/src/exec.c",
        "guest/src/vmorch-guest.h",
        "guest/initramfs-init",
    ],
)
def test_every_recipe_changes_with_a_shared_file(definitions: Path, changed: str) -> None:
    before = load_definitions(definitions)
    with (definitions / changed).open("a") as file:
        file.write("\n")
    after = load_definitions(definitions)
    assert all(after[name].recipe != before[name].recipe for name in before)


def test_a_mode_is_part_of_the_recipe(definitions: Path) -> None:
    before = load_definition(definitions / "tiny.yaml").recipe
    (definitions / "guest/tiny/sbin/shutdown").chmod(0o644)
    assert load_definition(definitions / "tiny.yaml").recipe != before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("packages:", "packges:", "unknown keys: packges"),
        ("method: extract", "method: build", "'method' must be one of"),
        ("least_memory: 96M", "least_memory: 96", "'96' is no size"),
        ("  command_line:", "  comand_line:", "command_line"),
        ("aliases: [", "aliases: [[", "does not define a base"),
        ("guest_modules: none", "guest_modules: some", "some"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_file(
    definitions: Path, old: str, new: str, said: str
) -> None:
    path = definitions / "tiny.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=said) as caught:
        load_definition(path)
    assert "tiny.yaml" in caught.value.message


def test_two_bases_cannot_share_an_alias(definitions: Path) -> None:
    text = (definitions / "tiny.yaml").read_text()
    (definitions / "small.yaml").write_text(text.replace("name: tiny", "name: small"))
    with pytest.raises(UsageError, match="small and tiny both claim 'tiny'"):
        load_definitions(definitions)


def test_a_debian_host_lends_its_mirrors_to_another_release() -> None:
    targets = [
        "Debian trixie main http://mirror.test/debian/",
        "Debian trixie-updates main http://mirror.test/debian/",
        "Debian trixie-security main https://mirror.test/security/",
        "Debian trixie-backports main http://mirror.test/debian/",
        "Debian trixie contrib http://mirror.test/debian/",
        "Debian trixie main cdrom://disc/",
        "Google Cloud main http://other.test/apt/",
        "vendor trixie main http://other.test/apt/",
    ]
    assert sources(targets, "bookworm") == [
        "deb http://mirror.test/debian/ bookworm main",
        "deb http://mirror.test/debian/ bookworm-updates main",
        "deb https://mirror.test/security/ bookworm-security main",
    ]


def test_another_host_leaves_the_choice_to_mmdebstrap() -> None:
    assert sources(["Ubuntu noble main http://mirror.test/ubuntu/"], "bookworm") == []
    assert sources(["Debian bookworm-security main http://mirror.test/s/"], "bookworm") == []
