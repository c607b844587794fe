from __future__ import annotations

import pytest

from vmorch.guest.cloud_config import warnings


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("#cloud-config\npackages: [nginx]\nruncmd: [ls]\n", ()),
        ("#cloud-config\nhostnme: x\n", ("no key 'hostnme'; did you mean 'hostname'?",)),
        ("#cloud-config\nqqqqqq: 1\n1: 2\n", ("no key 'qqqqqq'.", "no key '1'.")),
        ("#cloud-config\na: [\n", ("no YAML",)),
        ("#cloud-config\n- a\n", ("no keys",)),
        ("#cloud-config\n", ("no keys",)),
        ("#cloud-config\n" + "[" * 600, ("no YAML",)),
        ("#!/bin/sh\nhostnme: x\n", ()),
        ("## template: jinja\n#cloud-config\n{% if x %}\nhostnme: x\n", ()),
        (
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n"
            "--B\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n"
            "--B\nContent-Type: text/cloud-config\n\npakages: [x]\n--B--\n",
            ("no key 'pakages'; did you mean 'packages'?",),
        ),
    ],
)
def test_warnings(user: str, expected: tuple[str, ...]) -> None:
    found = warnings(user)
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text
