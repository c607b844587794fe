"""libvirt's errors and events in our words."""

from __future__ import annotations

import libvirt
import pytest

from vmorch.hypervisor.domains import guest_state
from vmorch.hypervisor.events import life_cycle_words
from vmorch.hypervisor.failures import guest_error, hypervisor_error
from vmorch.hypervisor.protocol import GuestState


class Failure(libvirt.libvirtError):  # type: ignore[misc]
    """An error as libvirt raises it, made by hand."""

    def __init__(self, code: int, text: str) -> None:
        Exception.__init__(self, text)
        self.err = (code, libvirt.VIR_FROM_QEMU, text, 2, None, None, None, 0, 0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Could not open '/x/disk.qcow2': Permission denied", "every directory"),
        ("Could not access KVM kernel module: Permission denied", "/dev/kvm"),
        ('Failed to get "write" lock', "Another QEMU"),
        ("Cannot get interface MTU on 'abcdef-br0': No such device", "bridge is missing"),
        ("cannot limit locked memory of process 7: Operation not permitted", "CAP_SYS_RESOURCE"),
        ("write failed: No space left on device", "full"),
        ("Failed to connect socket to '/run/libvirt/libvirt-sock'", "Start libvirtd"),
        ("cgroup CPU controller is not mounted", "cgroup controllers"),
    ],
)
def test_an_error_comes_with_what_to_do(text: str, hint: str) -> None:
    error = hypervisor_error(Failure(libvirt.VIR_ERR_OPERATION_FAILED, text), "start x")
    assert error.message == f"libvirt could not start x: {text}."
    assert hint in error.hint
    assert error.retryable


def test_lines_of_an_error_become_one() -> None:
    error = hypervisor_error(Failure(libvirt.VIR_ERR_INTERNAL_ERROR, "a:\n  b.\n"), "do")
    assert error.message == "libvirt could not do: a:; b."


def test_a_refused_document_is_not_tried_again() -> None:
    refused = Failure(libvirt.VIR_ERR_XML_INVALID_SCHEMA, "Extra element devices")
    assert not hypervisor_error(refused, "start x").retryable


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, True),
        (libvirt.VIR_ERR_INTERNAL_ERROR, False),
        (libvirt.VIR_ERR_NO_DOMAIN, False),
    ],
)
def test_an_agent_that_is_not_there_yet_may_come(code: int, retryable: bool) -> None:
    error = guest_error(Failure(code, "no"), "x", "guest-ping")
    assert error.retryable is retryable
    assert "guest-ping" in error.message


@pytest.mark.parametrize(
    ("event", "detail", "words"),
    [
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, 0, "crashed: panicked"),
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, 1, "shutdown: guest"),
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, 2, "shutdown: host"),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, 1, "destroyed"),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, 5, "stopped: qemu died"),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, 0, "resumed"),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, 99, "stopped"),
        (77, 0, "event 77"),
    ],
)
def test_what_happened_to_a_guest_is_told_apart(event: int, detail: int, words: str) -> None:
    assert life_cycle_words(event, detail) == words


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, 1, GuestState.RUNNING),
        (libvirt.VIR_DOMAIN_BLOCKED, 0, GuestState.RUNNING),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, GuestState.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED, GuestState.CRASHED),
        (libvirt.VIR_DOMAIN_CRASHED, 1, GuestState.CRASHED),
        (libvirt.VIR_DOMAIN_SHUTDOWN, 1, GuestState.SHUTTING_DOWN),
        (libvirt.VIR_DOMAIN_SHUTOFF, 3, GuestState.OFF),
    ],
)
def test_states(state: int, reason: int, expected: GuestState) -> None:
    assert guest_state(state, reason) is expected
