"""A key changes with everything that can change a layer's bytes, and with nothing else."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmorch.images import keys
from vmorch.images.dockerfile.lines import Heredoc
from vmorch.images.dockerfile.steps import CopyStep, MountStep, RunStep
from vmorch.images.selection import Context
from vmorch.model.context import ContextEntry
from vmorch.model.image import BootConfig, RunConfig

PARENT = "sha256:" + "0" * 64

RUN = RunStep(
    line=1,
    text="RUN x",
    argv=("sh", "-c", "x"),
    environment={"A": "1", "B": "2"},
    proxies={},
    user="",
    working_dir="/",
)
COPY = CopyStep(
    line=1,
    text="COPY . /",
    sources=("",),
    documents=(),
    destination="/a",
    into_directory=True,
    is_add=False,
    chown="",
    chmod=None,
    source_stage="",
)

names = st.text("abc", min_size=1, max_size=3)
entries = st.lists(
    st.builds(
        ContextEntry,
        path=st.lists(names, min_size=1, max_size=3).map("/".join),
        kind=st.just("file"),
        mode=st.sampled_from([0o644, 0o755]),
        digest=st.sampled_from(["sha256:" + c * 64 for c in "123"]),
        size=st.just(1),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda entry: entry.path,
).filter(lambda found: not any(a.path.startswith(b.path + "/") for a in found for b in found))


def copy_key(found: list[ContextEntry], pattern: str = "", step: CopyStep = COPY) -> str:
    files = Context(found).select(pattern)
    return keys.copy_key(PARENT, (), step, files=files, source_content="")


@given(entries, st.randoms(use_true_random=False))
def test_the_order_of_a_listing_does_not_matter(
    found: list[ContextEntry], shuffle: random.Random
) -> None:
    shuffled = list(found)
    shuffle.shuffle(shuffled)
    assert copy_key(found) == copy_key(shuffled)


@given(entries, st.data())
def test_any_change_of_a_file_changes_the_key(found: list[ContextEntry], data: Any) -> None:
    at = data.draw(st.integers(0, len(found) - 1))
    change = data.draw(
        st.sampled_from(
            [
                {"mode": 0o600},
                {"digest": "sha256:" + "f" * 64},
                {"kind": "symlink", "target": "x"},
                {"path": "zzz"},
            ]
        )
    )
    changed = [*found[:at], replace(found[at], **change), *found[at + 1 :]]
    assert copy_key(found) != copy_key(changed)
    assert copy_key(found) != copy_key([*found, replace(found[0], path="yyy")])


@given(entries)
def test_files_that_are_not_copied_do_not_matter(found: list[ContextEntry]) -> None:
    inside = [replace(entry, path=f"in/{entry.path}") for entry in found]
    outside = [replace(entry, path=f"out/{entry.path}") for entry in found]
    assert copy_key(inside, "in") == copy_key([*inside, *outside], "in")


@pytest.mark.parametrize(
    "change",
    [
        {"argv": ("sh", "-c", "y")},
        {"argv": ("sh", "-c x")},
        {"environment": {"A": "1", "B": "3"}},
        {"environment": {"A": "1"}},
        {"user": "nobody"},
        {"working_dir": "/srv"},
        {"script": "#!/bin/sh"},
        {"network": False},
    ],
)
def test_every_input_of_run(change: dict[str, Any]) -> None:
    key = keys.run_key(PARENT, (), RUN)
    assert keys.run_key(PARENT, (), replace(RUN, **change)) != key


def test_what_does_not_belong_to_run() -> None:
    key = keys.run_key(PARENT, (), RUN)
    for change in (
        {"line": 9, "text": "run  x"},
        {"proxies": {"HTTP_PROXY": "p"}},
        {"environment": {"B": "2", "A": "1"}},
    ):
        assert keys.run_key(PARENT, (), replace(RUN, **change)) == key
    assert keys.run_key("sha256:" + "1" * 64, (), RUN) != key
    assert keys.run_key(PARENT, ("/srv",), RUN) != key


@pytest.mark.parametrize(
    "change",
    [
        {"destination": "/b"},
        {"into_directory": False},
        {"is_add": True},
        {"chown": "1"},
        {"chmod": 0o755},
        {"epoch": 1},
    ],
)
def test_every_input_of_copy(change: dict[str, Any]) -> None:
    found = [ContextEntry(path="a", kind="file", mode=0o644, digest=PARENT, size=1)]
    assert copy_key(found) != copy_key(found, step=replace(COPY, **change))


def test_copies_from_images() -> None:
    def key(layer: str, **change: Any) -> str:
        return keys.copy_key(PARENT, (), replace(COPY, **change), files=(), source_content=layer)

    assert key("sha256:a") == key("sha256:a")
    assert key("sha256:a") != key("sha256:b")
    assert key("sha256:a", destination="/x") != key("sha256:a", destination="/y")


def test_documents_are_inputs_by_their_content() -> None:
    step = replace(COPY, documents=(Heredoc("a", "x", True),))
    assert step != COPY  # their digests are the `files`, see the builder


def test_an_image_is_named_by_layer_configuration_and_boot() -> None:
    boot = BootConfig(kernel="k", initrd="i", command_line="c")
    digest = keys.image_digest(PARENT, RunConfig(), boot)
    assert digest == keys.image_digest(PARENT, RunConfig(), boot)
    assert digest != keys.image_digest(PARENT, RunConfig(user="a"), boot)
    assert digest != keys.image_digest(PARENT, RunConfig(), replace(boot, kernel="l"))
    assert digest != keys.image_digest("sha256:" + "1" * 64, RunConfig(), boot)


def test_builder_version_is_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys.run_key(PARENT, (), RUN)
    monkeypatch.setattr(keys, "BUILDER_VERSION", keys.BUILDER_VERSION + 1)
    assert keys.run_key(PARENT, (), RUN) != before


MOUNT = MountStep(kind="bind", target="/x", source="a")


def mount_key(mount: MountStep, found: list[ContextEntry], source_layer: str = "") -> str:
    files = Context(found).select("")[0] if found else None
    part = keys.mount_part(mount, files=files, source_layer=source_layer)
    return keys.run_key(PARENT, (), RUN, [part])


@given(entries, st.data())
def test_what_a_bind_shows_is_an_input(found: list[ContextEntry], data: Any) -> None:
    at = data.draw(st.integers(0, len(found) - 1))
    change = data.draw(st.sampled_from([{"mode": 0o600}, {"digest": PARENT}, {"path": "zzz"}]))
    changed = [*found[:at], replace(found[at], **change), *found[at + 1 :]]
    assert mount_key(MOUNT, found) != mount_key(MOUNT, changed)
    assert mount_key(MOUNT, found) == mount_key(MOUNT, found[::-1])


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "tmpfs"},
        {"target": "/y"},
        {"writable": True},
        {"name": "other"},
        {"mode": 0o700},
        {"uid": 1},
        {"gid": 1},
        {"env": "E"},
        {"size_bytes": 1},
    ],
)
def test_every_input_of_a_mount(change: dict[str, Any]) -> None:
    assert mount_key(MOUNT, []) != mount_key(replace(MOUNT, **change), [])


def test_where_a_bind_of_an_image_comes_from() -> None:
    assert mount_key(MOUNT, [], "sha256:a") != mount_key(MOUNT, [], "sha256:b")
    other = replace(MOUNT, source="b")
    assert mount_key(MOUNT, [], "sha256:a") != mount_key(other, [], "sha256:a")
    # In a context it is the files that count, not where they lie.
    assert mount_key(MOUNT, []) == mount_key(other, [])


def test_a_merged_layer_is_another() -> None:
    assert len({keys.flat_key(PARENT), keys.directory_key(PARENT, ()), PARENT}) == 3


# Fields that have no part in a key, and why.
LEFT_OUT = {
    RunStep: {"line", "text", "proxies"},  # where and how it is written; the way outside
    MountStep: {
        "required",  # whether it is given is told by the mount being there
        "sharing",  # who waits for whom
        "source",  # files count, not where they lie; of an image it counts, see above
        "source_stage",  # the layer that it leads to counts
    },
    CopyStep: {
        "line",
        "text",
        "proxies",
        "sources",  # what they name counts: `files`, or the content of what --from reads
        "documents",
        "source_stage",
        "url",
        "checksum",
    },
}
OTHER: dict[str, Any] = {
    "argv": ("other",),
    "environment": {"A": "2"},
    "proxies": {"P": "1"},
    "mounts": ["other"],
    "network": False,
    "sources": ("other",),
    "documents": (Heredoc("a", "b", True),),
    "into_directory": False,
    "is_add": True,
    "chmod": 0o700,
    "epoch": 1,
    "writable": True,
    "required": True,
    "line": 7,
}


def _changed(step: Any, name: str) -> Any:
    old = getattr(step, name)
    return replace(step, **{name: OTHER.get(name, 7 if isinstance(old, int) else f"other {old}")})


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, f.name) for kind in (RunStep, CopyStep, MountStep) for f in fields(kind)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_field_of_a_step_is_an_input_or_is_known_not_to_be(kind: type, name: str) -> None:
    """A field that comes to be must be put into the key, or among those that are left out."""
    if kind is RunStep:
        mounts = OTHER["mounts"] if name == "mounts" else ()
        changed = RUN if name == "mounts" else _changed(RUN, name)
        same = keys.run_key(PARENT, (), RUN) == keys.run_key(PARENT, (), changed, mounts)
    elif kind is CopyStep:
        same = copy_key([]) == copy_key([], step=_changed(COPY, name))
    else:
        same = mount_key(MOUNT, []) == mount_key(_changed(MOUNT, name), [])
    assert same == (name in LEFT_OUT[kind])
