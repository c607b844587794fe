from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmorch.errors import UsageError
from vmorch.model.frames import (
    PAYLOAD_LIMIT,
    Decoder,
    Frame,
    FrameType,
    encode,
    exit_,
    exit_code_of,
    resize,
    resize_of,
)

FRAMES = st.lists(st.builds(Frame, st.sampled_from(FrameType), st.binary(max_size=40)), max_size=6)


@given(FRAMES, st.lists(st.integers(1, 9), min_size=1))
def test_frames_survive_any_cut_of_the_stream(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, frames))
    decoder, found = Decoder(), []
    while data:
        cut = cuts[len(found) % len(cuts)]
        found += list(decoder.feed(data[:cut]))
        data = data[cut:]
    assert found == frames


def test_numbers_in_payloads() -> None:
    assert encode(exit_(-1)) == b"\x06\x00\x00\x00\x04\xff\xff\xff\xff"
    assert exit_code_of(exit_(-15)) == -15
    assert encode(resize(columns=80, rows=24)) == b"\x02\x00\x00\x00\x04\x00\x50\x00\x18"
    assert resize_of(resize(columns=70000, rows=24)) == (65535, 24)


@pytest.mark.parametrize(
    "data", [b"\x08\x00\x00\x00\x00", b"\x00" + (PAYLOAD_LIMIT + 1).to_bytes(4, "big")]
)
def test_a_malformed_header_is_refused_before_its_payload(data: bytes) -> None:
    with pytest.raises(UsageError):
        list(Decoder().feed(data))


def test_a_short_payload_is_refused() -> None:
    with pytest.raises(UsageError):
        exit_code_of(Frame(FrameType.EXIT, b"\x00"))
