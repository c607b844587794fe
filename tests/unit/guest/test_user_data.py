from __future__ import annotations

from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmorch.errors import UsageError
from vmorch.guest.user_data import MERGE_TYPE, meta_data, user_data

text = st.text(st.characters(blacklist_categories=["Cs"]))


def leaves(user: str) -> list[tuple[str, bytes, str | None]]:
    """(type, content, merge header) of each part, ours first."""
    whole = message_from_bytes(user_data(user))
    assert whole.is_multipart()
    return [
        (part.get_content_type(), part.get_payload(decode=True), part.get("Merge-Type"))
        for part in whole.walk()
        if not part.is_multipart()
    ]


def multipart(*parts: str) -> str:
    head = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="B"\n\n'
    return head + "".join(f"--B\n{part}\n" for part in parts) + "--B--\n"


def test_without_user_data_it_is_ours_alone() -> None:
    assert user_data(None).startswith(b"#cloud-config\n")
    assert b"ssh_deletekeys: false" in user_data(None)


@pytest.mark.parametrize(
    ("user", "kind"),
    [
        ("#cloud-config\npackages: [nginx]\n", "text/cloud-config"),
        ("#!/bin/sh\necho hello\n", "text/x-shellscript"),
        ("#include\nhttps://example.org/x\n", "text/x-include-url"),
        ("#include-once\nhttps://example.org/x\n", "text/x-include-once-url"),
        ("#cloud-boothook\n#!/bin/sh\n", "text/cloud-boothook"),
        ("#cloud-config-archive\n- a\n", "text/cloud-config-archive"),
        ("#cloud-config-jsonp\n[]\n", "text/cloud-config-jsonp"),
        ("#part-handler\n", "text/part-handler"),
        ("## template: jinja\n#cloud-config\n", "text/jinja2"),
        ("  \n#Cloud-Config\n{}\n", "text/cloud-config"),
    ],
)
def test_each_form_is_carried_as_it_is(user: str, kind: str) -> None:
    ours, theirs = leaves(user)
    assert ours == ("text/cloud-config", user_data(None), None)
    assert theirs[:2] == (kind, user.encode())


@given(text)
def test_any_content_comes_back_byte_for_byte(body: str) -> None:
    user = f"#!/bin/sh\n{body}"
    assert leaves(user)[1][1] == user.encode()


def test_equal_data_gives_equal_bytes() -> None:
    assert user_data("#!a") == user_data("#!a")
    assert user_data("#!a") != user_data("#!b")


def test_a_cloud_config_does_not_replace_ours() -> None:
    assert leaves("#cloud-config\n{}")[1][2] == MERGE_TYPE
    assert leaves("## template: jinja\n#cloud-config\n{}")[1][2] == MERGE_TYPE
    assert leaves("#!/bin/sh\n")[1][2] is None


def test_of_a_users_parts_only_the_first_cloud_config_gets_the_header() -> None:
    user = multipart(
        "Content-Type: text/x-shellscript\n\n#!/bin/sh\n",
        "Content-Type: text/cloud-config\n\na: 1",
        "Content-Type: text/cloud-config\n\nb: 2",
    )
    assert [(kind, merge) for kind, _, merge in leaves(user)[1:]] == [
        ("text/x-shellscript", None),
        ("text/cloud-config", MERGE_TYPE),
        ("text/cloud-config", None),
    ]


def test_a_users_own_merge_header_stays() -> None:
    for name in ("Merge-Type", "X-Merge-Type"):
        user = multipart(f"Content-Type: text/cloud-config\n{name}: dict(replace)\n\na: 1")
        whole = message_from_bytes(user_data(user))
        theirs = [part for part in whole.walk() if not part.is_multipart()][1]
        assert theirs.get(name) == "dict(replace)"
        assert (theirs.get("Merge-Type") or "dict(replace)") == "dict(replace)"


def test_parts_that_do_not_state_their_type_and_other_encodings() -> None:
    user = multipart(
        "Content-Type: text/plain; charset=utf-8\n\n#cloud-config\na: ü",
        "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\nAAEC",
    )
    assert leaves(user)[1:] == [
        ("text/plain", "#cloud-config\na: ü".encode(), MERGE_TYPE),
        ("application/octet-stream", b"\0\1\2", None),
    ]


@pytest.mark.parametrize("user", ["", "packages: [nginx]\n", "hello", "# cloud-config\n{}"])
def test_what_cloud_init_would_ignore_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="cloud_init"):
        user_data(user)


def test_meta_data() -> None:
    assert meta_data(instance_id="i-1", host_name="orders-3") == (
        b'instance-id: "i-1"\nlocal-hostname: "orders-3"\n'
    )
