"""`ports:` and `expose:`."""

from __future__ import annotations

import re
from typing import Any

from vmorch.model.compose.availability import not_available
from vmorch.model.compose.containers import ListOf
from vmorch.model.compose.forms import ADDRESS, PORT, Choice, Word
from vmorch.model.compose.nodes import Fields, Node, Scalar, to_plain
from vmorch.model.compose.objects import Either, Key, Object, Values
from vmorch.model.compose.quantities import IPV4, port_range
from vmorch.model.compose.quantities import PORT as PORT_PATTERN
from vmorch.model.compose.reading import Wrong
from vmorch.model.spec import PublishedPort

_LONGEST_RANGE = 256
_RANGE = rf"{PORT_PATTERN}(?:-{PORT_PATTERN})?"
_PROTOCOL = r"(?:/(?:tcp|udp))?"
_SHORT = rf"(?:(?:{IPV4}:)?(?:{_RANGE})?:)?{_RANGE}{_PROTOCOL}"
_PARTS = re.compile(
    r"(?:(?:(?P<ip>[0-9.]+):)?(?P<published>[0-9-]*):)?(?P<target>[0-9-]+)(?:/(?P<protocol>.+))?"
)


def _expose(text: str) -> tuple[int, ...]:
    ports, _, protocol = text.partition("/")
    return tuple(_range(ports, protocol or "tcp"))


def _range(text: str, protocol: str) -> range:
    if protocol == "udp":
        raise ValueError(not_available("udp"))
    ports = port_range(text)
    if not ports:
        raise ValueError(f"The range {text} ends before it begins.")
    if len(ports) > _LONGEST_RANGE:
        raise ValueError(f"The range {text} has more than {_LONGEST_RANGE} ports.")
    return ports


def _published(text: str) -> tuple[PublishedPort, ...]:
    """`[[IP:][PUBLISHED]:]TARGET[/PROTOCOL]`; ranges pair up, or all of one are candidates."""
    parts = _PARTS.fullmatch(text)
    assert parts is not None  # the form's pattern is narrower
    targets = _range(parts["target"], parts["protocol"] or "tcp")
    sources = _range(parts["published"], "tcp") if parts["published"] else [None] * len(targets)
    if len(sources) != len(targets):
        raise ValueError(f"The two ranges of '{text}' have different lengths.")
    return tuple(
        PublishedPort(target=target, published=source, host_ip=parts["ip"])
        for source, target in zip(sources, targets, strict=True)
    )


def _long(values: Values) -> tuple[PublishedPort, ...]:
    if values.get("protocol") == "udp":
        raise Wrong(not_available("udp"), values.node.fields["protocol"].mark)
    if "target" not in values:
        return ()
    port = PublishedPort(
        target=values.get("target"),
        published=values.get("published"),
        host_ip=values.get("host_ip"),
        accept_proxy=values.get("proxy_protocol") in ("accept", "both"),
        send_proxy=values.get("proxy_protocol") in ("send", "both"),
    )
    return (port,)


def port_key(node: Node) -> object:
    """What makes a published port the same in two files: address, both ports, protocol."""
    match node:
        case Scalar():
            parts = _PARTS.fullmatch(node.text)
            if parts is None:
                return id(node)
            return (
                parts["ip"],
                parts["published"] or "",
                parts["target"],
                parts["protocol"] or "tcp",
            )
        case Fields(fields=fields):
            plain = {key: to_plain(field.node) for key, field in fields.items()}
            published = str(plain.get("published") or "")
            target = str(plain.get("target"))
            return (plain.get("host_ip"), published, target, plain.get("protocol") or "tcp")
    return id(node)


def expose_key(node: Node) -> object:
    return node.text.removesuffix("/tcp") if isinstance(node, Scalar) else id(node)


def flat(parts: list[tuple[Any, ...]] | None) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(one for part in parts or () for one in part))


_LABEL_ONLY = "it is only a label; write a comment."
EXPOSE = ListOf(
    Word("a port such as 8080 or 8000-8010", _RANGE + _PROTOCOL, _expose, integers=range(1, 65536)),
    expose_key,
)
PORTS = ListOf(
    Either(
        scalar=Word(
            "a port such as 8080, 80:8080 or 127.0.0.1:80:8080",
            _SHORT,
            _published,
            integers=range(1, 65536),
        ),
        fields=Object(
            name="port",
            build=_long,
            refused={
                "mode": "every port is published on this host, in front of all instances.",
                "name": _LABEL_ONLY,
                "app_protocol": _LABEL_ONLY,
            },
            keys={
                "target": Key(PORT, "The port of the service.", required=True),
                "published": Key(PORT, "The port of the host; without it, a free one."),
                "host_ip": Key(
                    ADDRESS, "The host's address to listen on; without it, that of the settings."
                ),
                "proxy_protocol": Key(
                    Choice(("accept", "send", "both")),
                    "accept: its connections say who their client is. send: the service is told.",
                ),
                "protocol": Key(Choice(("tcp", "udp")), "tcp."),
            },
        ),
    ),
    port_key,
)
