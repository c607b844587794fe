from __future__ import annotations

import signal

import pytest

from vmorch.model.signals import signal_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("15", 15),
        ("SIGABRT", 6),
        ("ALRM", 14),
        ("SIGRTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmin+30", 64),
        ("SIGRTMAX-4", 60),
        ("64", 64),
    ],
)
def test_numbers_are_those_of_linux(text: str, number: int) -> None:
    assert signal_number(text) == number


def test_every_name_of_the_host_is_known() -> None:
    assert {signal_number(name) for name in signal.Signals.__members__} == set(signal.Signals)


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "-9", "SIG", "FOO", "SIGRTM", "RTMIN+31", "RTMAX-31", "RTMIN-1", "15 ", "²"],
)
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no signal"):
        signal_number(text)
