"""Volumes, secrets and configs: what files say of them, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import pytest
from compose_loading import load_texts, problems

from vmorch.errors import InvalidSpec
from vmorch.model import codec
from vmorch.model.compose import SourceFile, load, render
from vmorch.model.spec import (
    BuildSpec,
    DeclaredFile,
    EnvironmentSpec,
    GrantedFile,
    ServiceSpec,
    VolumeMount,
    VolumeSpec,
)

GIB = 1024**3
FULL = """
services:
  db:
    image: tiny
    volumes: ["data:/srv/data", {type: volume, source: logs, target: /var/log/db, read_only: on}]
    secrets: [key, {source: key, target: other, uid: 5, gid: 6, mode: 0400}]
    configs: [motd, {source: env, target: /etc/app/env}]
  made:
    build:
      dockerfile_inline: FROM tiny
      secrets: [key, {source: token, target: tok}, {source: again, target: id}]
volumes:
  data:
  logs: {size: 2G, labels: [a=b]}
secrets:
  key: {file: ./key}
  token: {file: ./token}
  again: {environment: TAG}
configs:
  motd: {content: "$${a} ${TAG}"}
  env: {environment: USER}
"""
FILES = {"./key": b"\xff\x00binary", "./token": b"hunter-two-and-twenty"}


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def loaded(text: str) -> EnvironmentSpec:
    return load(
        [SourceFile("0.yaml", text)],
        variables={"USER": "me", "TAG": "12"},
        read=lambda path: None,
        read_bytes=FILES.get,
        default_name="dir",
    )


def test_all_of_it_resolves() -> None:
    spec = loaded(FULL)
    key, motd, env = map(digest, (FILES["./key"], b"${a} 12", b"me"))
    db = spec.services["db"]
    assert db.volumes == (
        VolumeMount(source="data", target="/srv/data"),
        VolumeMount(source="logs", target="/var/log/db", read_only=True),
    )
    assert db.secrets == (
        GrantedFile(source="key", target="/run/secrets/key", digest=key),
        GrantedFile(
            source="key", target="/run/secrets/other", digest=key, uid=5, gid=6, mode=0o400
        ),
    )
    assert db.configs == (
        GrantedFile(source="motd", target="/motd", digest=motd),
        GrantedFile(source="env", target="/etc/app/env", digest=env),
    )
    assert spec.volumes == {
        "data": VolumeSpec(),
        "logs": VolumeSpec(size_bytes=2 * GIB, labels={"a": "b"}),
    }
    token, again = map(digest, (FILES["./token"], b"12"))
    assert spec.secrets == {
        "key": DeclaredFile(digest=key, file="./key"),
        "token": DeclaredFile(digest=token, file="./token"),
        "again": DeclaredFile(digest=again, environment="TAG"),
    }
    assert spec.configs["env"] == DeclaredFile(digest=env, environment="USER")
    assert {d: base64.b64decode(c) for d, c in spec.contents.items()} == {
        key: FILES["./key"],
        token: FILES["./token"],
        again: b"12",
        motd: b"${a} 12",
        env: b"me",
    }


def test_the_rendered_file_and_the_json_lead_to_the_same() -> None:
    spec = loaded(FULL)
    assert loaded(render(spec)) == replace(spec, name="dir")
    assert codec.from_json(codec.to_json(spec)) == spec


def test_what_is_shown_has_no_contents() -> None:
    spec = loaded(FULL)
    shown = render(spec) + repr(spec)
    for content in FILES.values():
        assert base64.b64encode(content).decode() not in shown
        assert str(content)[2:-1] not in shown
    assert "- source: token\n        target: tok\n" in shown


def test_a_build_is_given_its_secrets_by_their_ids() -> None:
    spec = loaded(FULL)
    build = spec.services["made"].build
    assert build is not None
    given = {id_: base64.b64decode(c) for id_, c in spec.build_secrets(build).items()}
    assert given == {"key": FILES["./key"], "tok": FILES["./token"], "id": b"12"}
    assert spec.build_secrets(BuildSpec(context=".")) == {}


def test_with_its_images_a_spec_has_no_secret_that_no_guest_is_given() -> None:
    spec = loaded(FULL)
    made = replace(spec.services["made"], build=None)
    sent = spec.with_services({**spec.services, "made": made})
    assert sent.secrets == {"key": spec.secrets["key"]}
    assert sent.contents.keys() == {
        f.digest for f in (*sent.secrets.values(), *sent.configs.values())
    }
    assert codec.from_json(codec.to_json(sent)) == sent
    for content in (FILES["./token"], b"12"):
        for trace in (digest(content), base64.b64encode(content).decode()):
            assert trace not in str(codec.to_json(sent))
    assert spec.with_services({"made": made}).secrets == {}


def test_a_build_s_secret_is_no_part_of_a_revision() -> None:
    made = loaded(FULL).services["made"]
    assert made.revision_digest() == replace(made, build=None).revision_digest()


def test_another_content_is_another_revision_and_no_storage_is_none() -> None:
    db = loaded(FULL).services["db"]
    changed = replace(db, secrets=(replace(db.secrets[0], digest=digest(b"x")),))
    assert changed.revision_digest() != db.revision_digest()
    bare = ServiceSpec(name="web", image="sha256:" + "0" * 64)
    assert bare.revision_digest() == (
        "sha256:e397ba90daa9898d2abebf2a537ea8cff5bee9d4dff76e0e7f7a01ad773d3050"
    )


def test_contents_that_were_not_sent_are_missed() -> None:
    sent = codec.to_json(loaded(FULL))
    wrong = dict.fromkeys(sent["contents"], base64.b64encode(b"forged").decode())
    for contents in ({}, wrong, dict.fromkeys(wrong, "no base64!")):
        with pytest.raises(InvalidSpec, match="was not sent"):
            codec.from_json(sent | {"contents": contents})
    spec = loaded(FULL)
    db = spec.services["db"]
    stale = replace(db, secrets=(replace(db.secrets[0], digest=digest(b"old")),))
    with pytest.raises(InvalidSpec, match="is not the one"):
        codec.from_json(codec.to_json(replace(spec, services={"db": stale})))


_WEB = "services:\n  web:\n    image: tiny\n"
WRONG = {
    "volumes: [./x:/y]": "NAME:PATH",
    "volumes: [/y]": "NAME:PATH",
    "volumes: [{type: bind, source: data, target: /x}]": "share no|do not share directories",
    "volumes: [{type: tmpfs, source: data, target: /x}]": "'tmpfs' is refused",
    "volumes: [{type: volum, source: data, target: /x}]": "Expected volume",
    "volumes: [{source: data, target: /x, bind: {}}]": "'bind' is refused",
    "volumes: [dta:/x]": "Did you mean 'data'",
    "volumes: [data:/]": "no place",
    "volumes: [data:/x/../y]": "no place",
    "volumes: [data:/proc/x]": "guest's own",
    "volumes: [data:/x, more:/x/]": "no place",
    "volumes: [data:/x, data:/y]": "mounted twice",
    "volumes: [data:/a, more:/b, c:/c, d:/d, e:/e]": "at most 4",
    "scale: 2\nvolumes: [data:/x]": "per_instance: true",
    "secrets: [nokey]": "no secret 'nokey'",
    "secrets: [{source: key, target: ../x}]": "no place",
    "secrets: [{source: key, target: /dev/x}]": "guest's own",
    "secrets: [{source: key, mode: '99'}]": "permissions",
    "volumes: [data:/x]\nconfigs: [{source: motd, target: /x/y}]": "in the volume",
    "secrets: [key]\nconfigs: [{source: motd, target: /run/secrets/key}]": "Two files",
}
_DECLARED = (
    "volumes: {data: , more: , c: , d: , e: }\n"
    "secrets: {key: {environment: USER}}\nconfigs: {motd: {content: x}}\n"
)


@pytest.mark.parametrize("lines", WRONG)
def test_a_service_s_mistakes(lines: str) -> None:
    text = _WEB + "".join(f"    {line}\n" for line in lines.splitlines()) + _DECLARED
    found = problems(text)
    assert any(re.search(WRONG[lines], p.message) for p in found), [str(p) for p in found]
    assert all(p.line >= 4 for p in found)


TOP_WRONG = {
    "volumes: {data: {external: true}}": "belongs to one environment",
    "volumes: {data: {driver: local}}": "every volume is a qcow2 disk",
    "volumes: {data: {size: 1M}}": "from 16M",
    "secrets: {key: {content: x}}": "'content' is refused",
    "secrets: {key: {external: true}}": "belongs to one environment",
    "secrets: {key: }": "found",
    "secrets: {key: {}}": "needs one of 'file', 'environment'",
    "secrets: {key: {environment: NOWHERE}}": "'NOWHERE' is not set",
    "secrets: {key: {file: none}}": "'none' cannot be read",
    "configs: {motd: {file: a, content: b}}": "needs one of 'content', 'file', 'environment'",
}


@pytest.mark.parametrize("line", TOP_WRONG)
def test_mistakes_of_declarations(line: str) -> None:
    (found,) = problems(_WEB + line + "\n")
    assert TOP_WRONG[line] in found.message
    assert found.line == 4


def test_of_a_declaration_a_later_file_may_say_a_part() -> None:
    base = _WEB + "secrets: {key: {file: ./key}}\n"
    spec = load_texts(base.replace("./key", "good.env"), "secrets: {key: {labels: [a=b]}}")
    assert spec.secrets["key"].file == "good.env"
    (found,) = problems(base, "secrets: {key: {environment: USER}}")
    assert "needs one of" in found.message


def test_two_services_cannot_share_a_volume() -> None:
    text = "services:\n" + "".join(
        f"  {name}: {{image: tiny, volumes: [data:/x]}}\n" for name in ("a", "b")
    )
    (found,) = problems(text + "volumes: {data: }\n")
    assert "that of 'a'" in found.message


def test_a_later_file_moves_a_mount_by_its_target() -> None:
    base = _WEB + "    volumes: [data:/x, more:/y]\n" + _DECLARED
    over = "services: {web: {volumes: ['more:/x:ro', {source: data, target: /y}]}}\n"
    mounts = load_texts(base, over).services["web"].volumes
    assert [(m.source, m.target, m.read_only) for m in mounts] == [
        ("more", "/x", True),
        ("data", "/y", False),
    ]
