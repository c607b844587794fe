"""Users and groups as an image's tables have them, whatever else stands in those."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmorch.images.worker.users import UnknownUser, account, owner

PASSWD = """root:x:0:0:root:/root:/bin/sh
broken
odd:x:one:1::/:
high:x:99999999999:1::/:
\u00b2:x:\u00b2:1::/:
app:x:33:34::/srv:/bin/sh
"""
GROUP = "root:x:0:\nwww:x:35:app,root\nodd:x:one:app\nmore:x:36:app\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups"),
    [
        ("app", 33, 34, (35, 36)),
        ("33", 33, 34, (35, 36)),
        ("app:www", 33, 35, ()),
        ("app:7", 33, 7, ()),
        ("4242", 4242, 0, ()),
        ("4242:www", 4242, 35, ()),
    ],
)
def test_who_a_step_runs_as(
    root: Path, text: str, uid: int, gid: int, groups: tuple[int, ...]
) -> None:
    found = account(text, root)
    assert (found.uid, found.gid, found.groups) == (uid, gid, groups)


@pytest.mark.parametrize(
    "text", ["none", "odd", "high", "\u00b2", "app:none", "app:odd", "app:\u00b2"]
)
def test_who_is_not_there(root: Path, text: str) -> None:
    with pytest.raises(UnknownUser):
        account(text, root)


def test_whose_files_are(root: Path) -> None:
    assert owner("app", root) == (33, 33)  # as Docker has it
    assert owner("app:www", root) == (33, 35)
    assert owner("55", root) == (55, 55)
    assert account("0", root / "none").uid == 0
