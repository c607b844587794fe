"""Runs `ip`, `nft` and their like, and turns their refusals into NetworkError."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vmorch.errors import NetworkError
from vmorch.model.names import NAMESPACES

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "dnsmasq": "dnsmasq-base",
    "slirp4netns": "slirp4netns",
}
TIMEOUT_SECONDS = 20.0

# A service manager may give us a PATH without sbin; proxies and locales of ours are nobody's
# business.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}


def run(argv: Sequence[str], *, stdin: str = "", purpose: str) -> str:
    """Run a command to its end and return its output. `purpose` completes "could not …".

    Raises:
        NetworkError: it is missing, failed, or did not end in time.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        package = PACKAGES.get(argv[0], argv[0])
        raise NetworkError(
            f"Could not {purpose}: the program '{argv[0]}' is not installed.",
            hint=f"Install it (Debian's package {package}).",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NetworkError(
            f"Could not {purpose}: '{argv[0]}' did not end within {TIMEOUT_SECONDS:.0f} s.",
            hint="Look whether the machine is overloaded.",
            retryable=True,
        ) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise NetworkError(
            f"Could not {purpose}: '{argv[0]}' says: {said[:500]}",
            hint="The daemon must run as root with CAP_NET_ADMIN; see 'vmorch doctor'.",
            retryable=True,
        )
    return done.stdout


def ip_batch(lines: Sequence[str], *, namespace: str | None = None, purpose: str) -> None:
    """Many `ip` commands in one process; the first that fails ends it."""
    if lines:
        inside = ["-n", namespace] if namespace else []
        run(["ip", *inside, "-batch", "-"], stdin="\n".join(lines) + "\n", purpose=purpose)


def nft(rules: str, *, namespace: str | None = None, purpose: str) -> None:
    """Load rules as one transaction: all of them or none."""
    run([*entering(namespace), "nft", "-f", "-"], stdin=rules, purpose=purpose)


def entering(namespace: str | None) -> list[str]:
    """The words before a command that make it run in a namespace of ours.

    Not `ip netns exec`: that gives the command a mount namespace of its own, in which a
    long-lived dnsmasq would pin every mount of this moment.
    """
    return ["nsenter", f"--net={NAMESPACES / namespace}"] if namespace else []


def write_kernel(path: Path, value: str) -> None:
    """Set a kernel parameter of our own network namespace; one that the kernel lacks is left.

    Raises:
        NetworkError: the kernel refused.
    """
    try:
        path.write_text(value)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NetworkError(
            f"Could not set {path} to {value}: {os.strerror(error.errno or 0)}.",
            hint="The daemon must run as root, with /proc/sys writable.",
        ) from error
