"""Whether a port of the host is free."""

from __future__ import annotations

import socket


def port_is_free(address: str, port: int) -> bool:
    """Whether nobody listens on this TCP port now. HAProxy too binds with SO_REUSEADDR: what only
    waits for the end of old connections does not count."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
        return True
