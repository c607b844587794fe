"""How a request waits for a server that sleeps: what haproxy.cfg has for it. Pure.

A backend that `holds` lets what finds no server wait in `hold.lua`, which looks for one every few
milliseconds and tells the daemon who is waited for (`calls.py` hears it). When there is one it goes
on as any other request does; when the time is over it finds none, and has HAProxy's own answer.

A worker that is leaving hears of no new server any more. So such a backend has a *gate*: a listener
of its own, whose socket each worker takes over from the one before, and a server that leads to it.
Whoever still waits in a leaving worker goes through the gate to the worker that came after.
"""

from __future__ import annotations

import hashlib
import math
from importlib import resources

from vmorch.proxy.place import Place
from vmorch.proxy.protocol import ANSWER_SECONDS, Backend, Mode

GATE = "gate"
"""The name of the server that leads to the next worker. No instance is called so."""
MOST_HELD = 500
"""At once, for one backend: each takes two buffers of 16 KiB."""

_PAUSE_MS = {
    Mode.HTTP: 5,
    # HAProxy 2.6 forgets the end of a pause that is over before it has noted it, as when another
    # thread got the processor for so long: the connection then waits for all of its time.
    Mode.TCP: 30,
}

# Above all ordinals, which are the ids of instances.
_GATE_ID = 1_000_000_000
# Rules on content may wait for as long as this, and Lua must be done before.
_INSPECT_MARGIN_SECONDS = 5
# For a server that connects only at its third try.
_GATE_MARGIN_SECONDS = 15


def program() -> str:
    """`hold.lua`."""
    return resources.files(__package__).joinpath("hold.lua").read_text()


def global_lines(place: Place) -> list[str]:
    digest = hashlib.sha256(program().encode()).hexdigest()[:16]
    return [
        # So that another program is another structure, and is loaded.
        f"    # hold.lua {digest}",
        f"    setenv VMORCH_CALL_SOCKET '{place.call_socket}'",
        f"    lua-load '{place.hold_program}'",
    ]


def hold_lines(backend: Backend) -> list[str]:
    """Of the backend, after what it refuses at once."""
    if backend.hold_seconds is None:
        return []
    name, seconds = backend.name, backend.hold_seconds
    # At first glance without Lua, so that it costs nothing where there are servers.
    words = f"{name} {seconds:g} {_PAUSE_MS[backend.mode]}"
    held = f"lua.vmorch_hold {words} if {{ nbsrv eq 0 }} {{ be_conn le {MOST_HELD} }}"
    if backend.mode is Mode.HTTP:
        # The next worker may let it wait anew, before the instance's own time begins.
        answer = backend.treatment.timeout_seconds or ANSWER_SECONDS
        patience = math.ceil(seconds + answer + _GATE_MARGIN_SECONDS)
        return [
            f"    http-request {held} !{{ stopping }}",
            f"    http-request set-timeout server {patience}s if {{ stopping }}",
            *_leaving(),
        ]
    return [
        f"    tcp-request inspect-delay {seconds + _INSPECT_MARGIN_SECONDS:g}s",
        f"    tcp-request content {held} !{{ stopping }}",
        *_leaving(),
    ]


def _leaving() -> list[str]:
    return [f"    use-server {GATE} if {{ stopping }}"]


def gate_server(backend: Backend, place: Place) -> list[str]:
    """Without a weight: nothing is balanced to it, and it does not count as a server."""
    if backend.hold_seconds is None:
        return []
    words = f"id {_GATE_ID} weight 0 send-proxy-v2"
    return [f"    server {GATE} unix@'{place.gate_socket(backend.name)}' {words}"]


def gate(backend: Backend, place: Place) -> list[str]:
    """The frontend that the server `GATE` leads to."""
    socket = place.gate_socket(backend.name)
    return [
        f"frontend {GATE}:{backend.name}",
        f"    mode {backend.mode.value}",
        *(["    timeout client 24h"] if backend.mode is Mode.TCP else []),
        f"    bind unix@'{socket}' user {place.user} mode 600 accept-proxy",
        f"    default_backend {backend.name}",
    ]
