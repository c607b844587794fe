"""The local certificate authority: one per state directory, for `*.localhost` and nothing else.

It constrains itself to servers of that name (RFC 5280, 4.2.1.10 and 4.2.1.12), so that whoever
trusts it trusts it with no other host, address or person, even if its key were lost. Keys are those
of the operating system's randomness.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vmorch import durable
from vmorch.errors import ProxyError

DOMAIN = "localhost"
_AUTHORITY_DAYS = 3650
# Apple's clients refuse certificates of servers that are valid for more than 825 days, browsers
# those of public authorities for more than 398.
_SERVER_DAYS = 397
_RENEW_DAYS = 30


def is_local(host: str) -> bool:
    return host == DOMAIN or host.endswith(f".{DOMAIN}")


class LocalAuthority:
    """`directory` is root's alone. The authority is one `file` of certificate and key."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "authority.pem"

    def certificate(self, now: float) -> str:
        """The authority's certificate as PEM, which is no secret; made at the first call.

        Raises:
            ProxyError: its file is damaged or cannot be written.
        """
        authority, _ = self._kept(now)
        return authority.public_bytes(Encoding.PEM).decode()

    def issue(self, host: str, file: Path, now: float) -> None:
        """Write certificate and key for `host`, unless `file` has some for a month or more that
        this authority signed.

        Raises:
            ProxyError: as `certificate`.
        """
        authority, key = self._kept(now)
        if not _is_good(file, authority, now):
            own = ec.generate_private_key(ec.SECP256R1())
            nobody = x509.Name([])
            draft = _draft(nobody, authority.subject, own.public_key(), now=now, days=_SERVER_DAYS)
            for extension, critical in _server_extensions(host, authority):
                draft = draft.add_extension(extension, critical=critical)
            _write(file, draft.sign(key, SHA256()), own)

    def _kept(self, now: float) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if not self.file.exists():
            _write(self.file, *_new_authority(now))
        try:
            content = self.file.read_bytes()
            key = load_pem_private_key(content, password=None)
            certificate = x509.load_pem_x509_certificate(content)
        except (OSError, ValueError) as error:
            raise self._damaged() from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise self._damaged()
        return certificate, key

    def _damaged(self) -> ProxyError:
        return ProxyError(
            f"The local certificate authority in {self.file} cannot be read.",
            hint="Restore the file; or remove it, and trust the new one ('vmorch tls trust').",
        )


def _new_authority(now: float) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Two hosts' authorities must have two names, or a client that trusts both mistakes them.
    name = _name(f"vmorch local authority {serial:x}"[:40])
    draft = _draft(name, name, key.public_key(), now=now, days=_AUTHORITY_DAYS)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    # What a kind of name is not constrained, it is free: permitted host names say nothing of
    # addresses, and those of persons are no server's.
    only = x509.NameConstraints(
        permitted_subtrees=[x509.DNSName(DOMAIN)],
        excluded_subtrees=[x509.IPAddress(ip_network(every)) for every in ("0.0.0.0/0", "::/0")],
    )
    servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(only, critical=True)
        .add_extension(servers, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    ), key


def _draft(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: float,
    days: int,
) -> x509.CertificateBuilder:
    """Valid from a day ago, for clients whose clocks are behind. A server has no subject: its
    name stands in the extensions, and could be too long for a common name (64 characters)."""
    moment = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=days))
    )


def _server_extensions(
    host: str, authority: x509.Certificate
) -> list[tuple[x509.ExtensionType, bool]]:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return [
        # Critical, as the subject is empty (RFC 5280, 4.2.1.6).
        (x509.SubjectAlternativeName([x509.DNSName(host)]), True),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _is_good(file: Path, authority: x509.Certificate, now: float) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        certificate.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    left = certificate.not_valid_after_utc - datetime.fromtimestamp(now, UTC)
    return left >= timedelta(days=_RENEW_DAYS)


def _write(file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Both in one file, which appears whole and which nobody but root ever reads."""
    text = certificate.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    temporary = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text)
        durable.publish(temporary, file)
    except OSError as error:
        raise ProxyError(f"The certificate {file} cannot be written: {error.strerror}.") from error
