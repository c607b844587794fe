"""vmorch tls."""

from __future__ import annotations

import hashlib
import ssl

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Output
from vmorch.cli.output import print_json

app = new_app("The local certificate authority, which signs for *.localhost and nothing else.")

_TRUST = """\
Routes of *.localhost answer by TLS{where}, with certificates of this installation's own
authority, whose SHA-256 fingerprint is
  {fingerprint}
It cannot sign for any other name. To trust it:

one command    vmorch tls ca >vmorch-ca.pem; curl --cacert vmorch-ca.pem https://…
Debian, Ubuntu vmorch tls ca | sudo tee /usr/local/share/ca-certificates/{name}.crt >/dev/null
               sudo update-ca-certificates
Python, Node   SSL_CERT_FILE=vmorch-ca.pem; NODE_EXTRA_CA_CERTS=vmorch-ca.pem
Firefox        Settings, Certificates, Authorities, Import: vmorch-ca.pem
Chrome         certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {name} -i vmorch-ca.pem
"""


@app.command(
    "ca",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch tls ca >vmorch-ca.pem", "then: curl --cacert vmorch-ca.pem https://…"),
    ),
)
def ca(ctx: typer.Context) -> None:
    """Print the authority's certificate (PEM). It is no secret."""
    print(session_of(ctx).client.authority().certificate, end="")


@app.command(
    "trust", cls=ExampleCommand, epilog=examples(("vmorch tls trust -o json", "for programs"))
)
def trust(ctx: typer.Context, *, output: Output = "table") -> None:
    """Print how to have programs trust the authority. Changes nothing."""
    found = session_of(ctx).client.authority()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.certificate)).hexdigest().upper()
    fingerprint = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    if output == "json":
        print_json({"fingerprint": fingerprint, "https": found.https})
        return
    where = f" at {found.https}" if found.https else " once 'https_port' is set"
    name = f"vmorch-{digest[:6].lower()}"
    print(_TRUST.format(where=where, fingerprint=fingerprint, name=name), end="")
