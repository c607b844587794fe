"""`route:`, a key of ours."""

from __future__ import annotations

import json

from vmorch.model.compose import quantities
from vmorch.model.compose.containers import ListOf, MapOf, OneOrMany
from vmorch.model.compose.forms import BOOLEAN, BYTES, DURATION, PORT, Word
from vmorch.model.compose.nodes import Fields, Node, to_plain
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.spec import Route

_HOST = Word("a host name in lower case", quantities.ROUTE_HOST)
_PATH = Word("a path such as /api, without an apostrophe", quantities.ROUTE_PATH)
_VALUE = Word(
    "a line of ASCII without an apostrophe, and not '}' alone",
    quantities.HEADER_VALUE,
    numbers=True,
)
_HEADERS = MapOf(_VALUE, quantities.HEADER_NAME, "the name of a header")
_LINE = rf"[^\n\r]{{1,{quantities.MOST_MAINTENANCE}}}"
_NOTHING = "This service is under maintenance. Try again later."


def _maintenance(text: str) -> str | None:
    return {"true": _NOTHING, "false": None}.get(text, text)


_MAINTENANCE = Word("true, false or a line of text", _LINE, _maintenance, booleans=True)


def _route(values: Values) -> Route | None:
    if "host" not in values:
        return None
    return Route(
        host=values.get("host"),
        path=values.get("path", "/"),
        port=values.get("port"),
        headers=values.get("headers", {}),
        timeout_seconds=values.get("timeout"),
        body_bytes=values.get("body_limit"),
        maintenance=values.get("maintenance"),
        access_log=values.get("access_log", False),
    )


def _key(node: Node) -> object:
    if not isinstance(node, Fields):
        return id(node)
    plain = {name: to_plain(field.node) for name, field in node.fields.items()}
    headers = json.dumps(plain.get("headers") or {}, sort_keys=True)
    return str(plain.get("host")), str(plain.get("path") or "").rstrip("/"), headers


ROUTE = OneOrMany(
    ListOf(
        Object(
            name="route",
            build=_route,
            keys={
                "host": Key(_HOST, "The host name of the requests.", required=True),
                "path": Key(_PATH, "How their path begins; / if not given."),
                "port": Key(PORT, "The port of the service; its first one if not given."),
                "headers": Key(_HEADERS, "Headers that they must have, with their values."),
                "timeout": Key(DURATION, "How long an instance may be silent; 5m if not given."),
                "body_limit": Key(BYTES, "The longest body that they may have."),
                "access_log": Key(BOOLEAN, "true: 'vmorch logs --access' shows the requests."),
                "maintenance": Key(_MAINTENANCE, "The answer to all of them instead, with 503."),
            },
        ),
        _key,
    ),
    merge_single=True,
)
