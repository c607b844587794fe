"""The image of a small server for guests: `guest/server.c` tells what it answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

PORT = 8080
_SOURCES = Path(__file__).parent / "guest"
_DOCKERFILE = """\
FROM tiny
COPY server /usr/local/bin/server
EXPOSE {port}
CMD ["/usr/local/bin/server", "{port}", "{milliseconds}"]
"""


def write_context(directory: Path, *, slow_seconds: float = 0.2) -> None:
    """Put its Dockerfile and all that belongs to it there. `/slow` takes so many seconds."""
    command = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-static", "-Os", "-s"]
    sources = sorted(_SOURCES.glob("*.c"))
    subprocess.run([*command, "-o", directory / "server", *sources], check=True)
    text = _DOCKERFILE.format(port=PORT, milliseconds=round(1000 * slow_seconds))
    (directory / "Dockerfile").write_text(text)
