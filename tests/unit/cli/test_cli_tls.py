from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable
from typing import Any

Run = Callable[..., tuple[int, str, str]]


def test_the_authority_and_how_to_trust_it(run: Run, daemon: Any) -> None:
    code, certificate, _ = run("tls", "ca")
    assert code == 0
    assert run("tls", "ca")[1] == certificate
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
    code, out, _ = run("tls", "trust", "-o", "json")
    said = json.loads(out)
    assert said["fingerprint"].replace(":", "").lower() == digest
    assert said["https"] == f"127.0.0.1:{daemon.settings.https_port}"
    text = run("tls", "trust")[1]
    assert said["fingerprint"] in text
    assert said["https"] in text
