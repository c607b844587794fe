"""libvirt's errors as ours: its own text, and what to do about it."""

from __future__ import annotations

import re

import libvirt

from vmorch.errors import GuestError, HypervisorError

# First match wins. Each line is an error that users of libvirt meet and cannot read.
_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"apparmor",
        "AppArmor forbids QEMU a file; see 'journalctl -k -g DENIED' and keep the state directory "
        "where libvirt's profile allows it.",
    ),
    (
        r"locked memory|cannot limit",
        "This process may not raise limits (no CAP_SYS_RESOURCE); run libvirtd with it.",
    ),
    (
        r"kvm.*permission denied",
        "QEMU's user may not open /dev/kvm: 'chgrp kvm /dev/kvm; chmod 660 /dev/kvm', or set "
        "accel to tcg.",
    ),
    (
        r"permission denied",
        "QEMU's user must pass through every directory down to the disks (o+x), read the layers "
        "and own the overlay; see 'vmorch doctor'.",
    ),
    (
        r"failed to get .*lock",
        "Another QEMU has this disk open; find it with 'fuser' and end it, or wait for its end.",
    ),
    (
        r"bridge|interface mtu|cannot get interface",
        "The environment's bridge is missing; it is made anew in the next cycle.",
    ),
    (
        r"no space left",
        "The file system of the state directory is full; 'vmorch image prune' frees some.",
    ),
    (
        r"cannot allocate memory|cannot set up guest memory",
        "The host has too little memory left; stop guests or lower 'memory'.",
    ),
    (
        r"cgroup|controller",
        "libvirt cannot limit guests without the cpu and memory cgroup controllers; see "
        "'vmorch doctor'.",
    ),
    (
        r"failed to connect socket|no such file.*libvirt-sock|connection refused",
        "Start libvirtd ('systemctl start libvirtd'), or set 'libvirt_uri'; see 'vmorch doctor'.",
    ),
    (r"unable to find security driver|domain configuration", "See 'vmorch doctor'."),
)
_AGENT_RETRYABLE = {
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_AGENT_UNSYNCED,
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    libvirt.VIR_ERR_OPERATION_INVALID,
}
# Neither the document nor the host will be any better the next time.
_PERMANENT = {
    libvirt.VIR_ERR_XML_ERROR,
    libvirt.VIR_ERR_XML_DETAIL,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_INVALID_ARG,
}


def hypervisor_error(error: libvirt.libvirtError, doing: str) -> HypervisorError:
    """`doing` completes "libvirt could not …"."""
    text = _text(error)
    return HypervisorError(
        f"libvirt could not {doing}: {text}.",
        hint=_hint(text),
        retryable=error.get_error_code() not in _PERMANENT,
    )


def guest_error(error: libvirt.libvirtError, name: str, command: str) -> GuestError:
    """A failed call of a guest's agent. Retryable when the agent was not there, in time."""
    return GuestError(
        f"The guest agent of {name} did not answer {command}: {_text(error)}.",
        hint="See its console log; an image without qemu-guest-agent has no agent at all.",
        retryable=error.get_error_code() in _AGENT_RETRYABLE,
    )


def is_absent(error: libvirt.libvirtError) -> bool:
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


def _text(error: libvirt.libvirtError) -> str:
    text = (error.get_error_message() or str(error)).strip().rstrip(".")
    return re.sub(r"\s*\n\s*", "; ", text)


def _hint(text: str) -> str:
    lowered = text.lower()
    for pattern, hint in _HINTS:
        if re.search(pattern, lowered):
            return hint
    return ""
