"""The local authority and the list of certificates for HAProxy."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from vmorch import durable
from vmorch.errors import ProxyError
from vmorch.proxy.authority import LocalAuthority
from vmorch.proxy.certificates import Certificates
from vmorch.proxy.place import Place

NOW = 1_800_000_000.0
DAY = 86400.0


class StoodClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


@pytest.fixture
def clock() -> StoodClock:
    return StoodClock()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(config_dir=tmp_path, run_dir=tmp_path)


@pytest.fixture
def certificates(place: Place, clock: StoodClock) -> Certificates:
    return Certificates(place, clock)


def listed(place: Place) -> list[str]:
    files = map(Path, place.certificate_list.read_text().split())
    return [str(file.relative_to(place.tls_dir)) for file in files]


def give(place: Place, name: str, host: str) -> Path:
    """A certificate of another authority, as an operator has one."""
    file = place.tls_dir / "given" / name
    LocalAuthority(place.tls_dir / "another").issue(host, file, NOW)
    return file


def verdict(authority: str, file: Path, host: str, tmp_path: Path) -> str:
    """What OpenSSL says of a server that shows this certificate to a client that asked `host`."""
    (tmp_path / "authority").write_text(authority)
    moment = ["-attime", str(int(NOW)), "-verify_hostname", host, "-purpose", "sslserver"]
    command = ["openssl", "verify", "-x509_strict", *moment, "-CAfile", tmp_path / "authority"]
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_openssl_accepts_what_the_authority_issued_for_that_host_alone(
    certificates: Certificates, place: Place, tmp_path: Path
) -> None:
    certificates.ensure(["Web.localhost", "example.org"])
    assert listed(place) == ["issued/web.localhost.pem"]
    file, authority = place.tls_dir / "issued/web.localhost.pem", certificates.authority()
    assert verdict(authority, file, "web.localhost", tmp_path).endswith(": OK\n")
    assert "hostname mismatch" in verdict(authority, file, "api.localhost", tmp_path)


def test_the_authority_cannot_vouch_for_another_domain(place: Place, tmp_path: Path) -> None:
    authority, file = LocalAuthority(tmp_path), tmp_path / "evil.pem"
    authority.issue("evil.example", file, NOW)
    said = verdict(authority.certificate(NOW), file, "evil.example", tmp_path)
    assert "permitted subtree violation" in said


@pytest.mark.parametrize(
    ("name", "question", "said"),
    [
        (x509.IPAddress(ip_address("192.0.2.1")), ["-verify_ip", "192.0.2.1"], "excluded subtree"),
        (x509.IPAddress(ip_address("2001:db8::1")), ["-verify_ip", "2001:db8::1"], "excluded sub"),
        (
            x509.RFC822Name("a@shop.example"),
            ["-verify_email", "a@shop.example", "-purpose", "smimesign"],
            "unsuitable certificate purpose",
        ),
        (x509.DNSName("a.localhost"), ["-verify_hostname", "a.localhost"], ": OK"),
    ],
)
def test_the_authority_cannot_vouch_for_an_address_or_a_person(
    tmp_path: Path, name: x509.GeneralName, question: list[str], said: str
) -> None:
    LocalAuthority(tmp_path).certificate(NOW)
    authority = x509.load_pem_x509_certificate((tmp_path / "authority.pem").read_bytes())
    key = load_pem_private_key((tmp_path / "authority.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        .sign(key, SHA256())
    )
    file = tmp_path / "forged.pem"
    file.write_bytes(forged.public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-attime", str(int(NOW)), *question]
    command += ["-CAfile", str(tmp_path / "authority.pem"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


def test_keys_are_roots_alone_and_the_authority_is_made_once(
    certificates: Certificates, place: Place, clock: StoodClock
) -> None:
    first = certificates.authority()
    certificates.ensure(["web.localhost"])
    assert Certificates(place, clock).authority() == first
    for file in (place.tls_dir / "authority.pem", place.tls_dir / "issued/web.localhost.pem"):
        assert file.stat().st_mode & 0o777 == 0o600
    assert place.tls_dir.stat().st_mode & 0o077 == 0
    assert "PRIVATE" not in first


def test_the_digest_changes_with_the_certificates_only(
    certificates: Certificates, place: Place, clock: StoodClock
) -> None:
    assert certificates.ensure(["example.org"]) == ""
    one = certificates.ensure(["web.localhost"])
    assert one
    assert Certificates(place, clock).ensure(["web.localhost"]) == one
    two = certificates.ensure(["web.localhost", "api.localhost"])
    assert two != one
    assert certificates.ensure(["web.localhost"]) == one
    assert not (place.tls_dir / "issued/api.localhost.pem").exists()


def test_a_certificate_is_made_anew_a_month_before_its_end(
    certificates: Certificates, clock: StoodClock
) -> None:
    first = certificates.ensure(["web.localhost"])
    clock.time = NOW + 366 * DAY
    assert certificates.ensure(["web.localhost"]) == first
    clock.time = NOW + 368 * DAY
    assert certificates.ensure(["web.localhost"]) != first


def test_one_of_an_earlier_authority_is_made_anew(certificates: Certificates, place: Place) -> None:
    first = certificates.ensure(["web.localhost"])
    (place.tls_dir / "authority.pem").unlink()
    assert certificates.ensure(["web.localhost", "api.localhost"]) != first
    file = place.tls_dir / "issued/web.localhost.pem"
    own = x509.load_pem_x509_certificate(file.read_bytes())
    own.verify_directly_issued_by(x509.load_pem_x509_certificate(certificates.authority().encode()))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("web.localhost", ["given/own.pem"]),
        ("*.localhost", ["given/own.pem"]),
        ("*.web.localhost", ["given/own.pem", "issued/web.localhost.pem"]),
        ("shop.example", ["given/own.pem", "issued/web.localhost.pem"]),
    ],
)
def test_what_is_given_goes_first_and_spares_the_authority(
    certificates: Certificates, place: Place, name: str, files: list[str]
) -> None:
    give(place, "own.pem", name)
    certificates.ensure(["web.localhost"])
    assert listed(place) == files


def test_a_given_one_is_noticed_when_it_changes_and_when_it_goes(
    certificates: Certificates, place: Place
) -> None:
    file = give(place, "own.pem", "shop.example")
    first = certificates.ensure([])
    file.unlink()
    give(place, "own.pem", "other.example")
    second = certificates.ensure([])
    file.unlink()
    assert len({first, second, certificates.ensure([])}) == 3
    assert certificates.ensure([]) == ""


def test_it_tells_which_hosts_have_one(certificates: Certificates, place: Place) -> None:
    def told() -> list[bool]:
        hosts = ("web.localhost", "shop.example", "a.shop.example", "b.a.shop.example")
        return [certificates.covers(host) for host in hosts]

    assert told() == [True, False, False, False]
    file = give(place, "own.pem", "*.shop.example")
    assert told() == [True, False, True, False]
    file.unlink()
    assert told() == [True, False, False, False]


def test_an_unusable_one_is_left_out(certificates: Certificates, place: Place) -> None:
    good, other = give(place, "good.pem", "a.example"), give(place, "other.pem", "b.example")
    mixed = good.read_text().partition("-----BEGIN PRIVATE")[0] + (
        "-----BEGIN PRIVATE" + other.read_text().partition("-----BEGIN PRIVATE")[2]
    )
    (place.tls_dir / "given/mixed.pem").write_text(mixed)
    (place.tls_dir / "given/nokey.pem").write_text(good.read_text().partition("-----BEGIN PR")[0])
    (place.tls_dir / "given/empty.pem").write_text("")
    certificates.ensure([])
    assert listed(place) == ["given/good.pem", "given/other.pem"]


def weak(file: Path) -> None:
    """A key that OpenSSL finds too short to use."""
    parts = [file.with_suffix(ending) for ending in (".key", ".crt")]
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:1024", "-subj", "/CN=a"]
    subprocess.run(
        [*command, "-keyout", parts[0], "-out", parts[1]], check=True, capture_output=True
    )
    file.write_bytes(b"".join(part.read_bytes() for part in parts))


def with_broken_chain(file: Path) -> None:
    file.write_text(
        f"{file.read_text()}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nowhere/at-all.pem")


@pytest.mark.parametrize("spoil", [weak, with_broken_chain, dangling])
def test_what_haproxy_would_refuse_is_left_out_and_the_rest_listed(
    certificates: Certificates, place: Place, spoil: Callable[[Path], None]
) -> None:
    give(place, "good.pem", "a.example")
    spoil(give(place, "bad.pem", "b.example"))
    assert certificates.ensure([])
    assert listed(place) == ["given/good.pem"]
    [text] = certificates.troubles()
    assert "given/bad.pem is left out: " in text


def test_a_name_that_cannot_be_listed_is_left_out(certificates: Certificates, place: Place) -> None:
    give(place, "good.pem", "a.example")
    give(place, "my own.pem", "b.example")
    certificates.ensure([])
    assert listed(place) == ["given/good.pem"]


def test_an_authority_in_trouble_costs_only_its_own_certificates(
    certificates: Certificates, place: Place
) -> None:
    give(place, "own.pem", "a.example")
    before = certificates.ensure(["old.localhost"])
    kept = (place.tls_dir / "authority.pem").read_text()
    (place.tls_dir / "authority.pem").write_text("nothing")
    assert certificates.ensure(["old.localhost", "new.localhost"]) == before
    assert listed(place) == ["given/own.pem", "issued/old.localhost.pem"]
    (place.tls_dir / "authority.pem").write_text(kept)
    certificates.ensure(["old.localhost", "new.localhost"])
    assert "issued/new.localhost.pem" in listed(place)


def test_what_could_not_be_made_is_tried_again(
    certificates: Certificates, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.authority()
    with monkeypatch.context() as broken:
        broken.setattr(durable, "publish", full)
        assert certificates.ensure(["web.localhost"]) == ""
    assert certificates.ensure(["web.localhost"])


def full(*files: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("lost", ["authority.pem", "issued/web.localhost.pem"])
def test_a_removed_file_is_made_anew_at_once(
    certificates: Certificates, place: Place, lost: str
) -> None:
    first = certificates.ensure(["web.localhost"])
    (place.tls_dir / lost).unlink()
    assert certificates.ensure(["web.localhost"]) != first
    issued = x509.load_pem_x509_certificate(
        (place.tls_dir / "issued/web.localhost.pem").read_bytes()
    )
    issued.verify_directly_issued_by(
        x509.load_pem_x509_certificate(certificates.authority().encode())
    )


def test_one_that_expires_is_told_of_and_then_wins_over_nothing(
    certificates: Certificates, place: Place, clock: StoodClock
) -> None:
    give(place, "own.pem", "web.localhost")
    assert certificates.troubles() == []
    clock.time = NOW + 370 * DAY
    certificates.ensure(["web.localhost"])
    assert listed(place) == ["given/own.pem"]
    assert "own.pem expires in 27 days" in certificates.troubles()[0]
    clock.time = NOW + 398 * DAY
    certificates.ensure(["web.localhost"])
    assert listed(place) == ["issued/web.localhost.pem", "given/own.pem"]
    assert certificates.troubles()[0].endswith("own.pem has expired")


def test_a_damaged_authority_is_an_error_with_its_file(
    certificates: Certificates, place: Place
) -> None:
    certificates.authority()
    (place.tls_dir / "authority.pem").write_text("nothing")
    with pytest.raises(ProxyError, match=r"authority.pem") as caught:
        certificates.authority()
    assert "vmorch tls trust" in (caught.value.hint or "")
