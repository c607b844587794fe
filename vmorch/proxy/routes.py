"""The HTTP side of haproxy.cfg: where a request goes, and what becomes of it there. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from vmorch.proxy.access import SILENT, log_lines
from vmorch.proxy.listening import ROUTES
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import Backend, HttpRoute, Treatment

NO_ROUTE = "vmorch-no-route"
RETRY_AFTER_SECONDS = 1
MAINTENANCE_RETRY_SECONDS = 60


def http_side(
    routes: Iterable[HttpRoute], place: Place, *, tls: bool, logged: bool
) -> tuple[list[str], list[str]]:
    """The frontend and the answer where no route leads. Of the routes that fit a request the first
    wins: of a longer path before a shorter, of more headers before fewer."""
    scheme = "%[ssl_fc,iif(https,http)]" if tls else "http"
    leading = (
        f"    use_backend {route.backend} if {_conditions(route)}"
        for route in sorted(routes, key=_order)
    )
    frontend = [
        f"frontend {ROUTES}",
        "    mode http",
        f"    bind {endpoint(place.http_address, place.http_port)}",
        *([_tls_bind(place)] if tls else []),
        # On a reload, idle clients are told to close with their next answer; a bare close
        # would race with a request under way.
        "    option idle-close-on-response",
        "    option forwardfor",
        f"    http-request set-header X-Forwarded-Proto {scheme}",
        "    http-request set-header X-Forwarded-Host %[req.hdr(host)]",
        "    http-request set-var(txn.host) req.hdr(host),host_only",
        *(log_lines() if logged else []),
        *leading,
        f"    default_backend {NO_ROUTE}",
    ]
    no_route = [
        f"backend {NO_ROUTE}",
        "    mode http",
        *([SILENT] if logged else []),
        "    http-request return status 404 content-type text/plain"
        ' lf-string "vmorch has no route for %[req.hdr(host)]%[path].\\n"',
    ]
    return frontend, no_route


def _tls_bind(place: Place) -> str:
    # Without a certificate for the name asked, none at all is better than a wrong one.
    words = f"ssl crt-list '{place.certificate_list}' strict-sni alpn h2,http/1.1"
    return f"    bind {endpoint(place.http_address, place.https_port)} {words}"


def _order(route: HttpRoute) -> tuple[object, ...]:
    path = route.path.rstrip("/")
    return (route.host.lower(), -len(path), -len(route.headers), path, route.headers)


def _conditions(route: HttpRoute) -> str:
    """Every one of them must hold. A prefix ends at a slash: /api is no /apix."""
    host = route.host.lower()
    # Cheaper than to convert what each request says: case, and the dot that a whole name may have.
    found = [f"{{ var(txn.host) -m str -i -- '{host}' '{host}.' }}"]
    if prefix := route.path.rstrip("/"):
        found.append(f"{{ path,concat(/) -m beg -- '{prefix}/' }}")
    found += [f"{{ req.fhdr({name}) -m str -- '{value}' }}" for name, value in route.headers]
    return " ".join(found)


def http_lines(backend: Backend, *, silent: bool) -> list[str]:
    """What a backend does with a request before it goes to a server, or instead. `silent`: and
    without a word in the access log, unless it is to be there."""
    treatment = backend.treatment
    level = [SILENT] if silent and not treatment.logged else []
    if treatment.maintenance is not None:
        closed = _answer(503, treatment.maintenance, retry_after=MAINTENANCE_RETRY_SECONDS)
        return [*level, closed]
    return [
        *level,
        *_limits(treatment),
        # A request that never left is always repeated; one that a server hung up on, only
        # when repeating it changes nothing (METH_GET is GET and HEAD), and only the first of its
        # connection: of a later one the connection is closed, and it is the client's to repeat
        # (RFC 9112, 9.3.1). To be repeated a request is copied, with the whole of its buffer,
        # which would cost more than all the rest that is done here.
        "    retry-on conn-failure empty-response",
        "    http-request disable-l7-retry if !{ http_first_req } or !METH_GET",
        # For no server and for none that answers. A rule on nbsrv would be wrong: a worker
        # that is leaving counts none at all, and has its last requests still to send on.
        "    http-error status 503 content-type text/plain"
        f" hdr Retry-After {RETRY_AFTER_SECONDS}"
        f' string "No instance of {backend.name} is ready. Try again.\\n"',
    ]


def _limits(treatment: Treatment) -> list[str]:
    found = []
    if treatment.timeout_seconds is not None:
        found.append(f"    timeout server {max(1, round(treatment.timeout_seconds * 1000))}ms")
    if (most := treatment.body_bytes) is not None:
        unmeasured = _answer(411, "The length of the body must be given.")
        # What does not say its length cannot be held to a limit. HTTP/2 has no word for "a body
        # follows", so there it is asked of the methods that are for sending one.
        found += [
            f"{unmeasured} if {{ req.fhdr_cnt(transfer-encoding) gt 0 }}",
            f"{unmeasured} if {{ req.ver 2.0 }} !{{ req.fhdr(content-length) -m found }}"
            " !{ method GET HEAD OPTIONS DELETE CONNECT }",
            f"{_answer(413, f'The body has more than {most} bytes.')}"
            f" if {{ req.body_size gt {most} }}",
        ]
    return found


def _answer(status: int, text: str, *, retry_after: int = 0) -> str:
    header = f" hdr Retry-After {retry_after}" if retry_after else ""
    # Nothing in single quotes means anything to HAProxy but their end; a \n needs double ones.
    quoted = "'" + text.replace("'", "'\\''") + "'"
    return (
        f"    http-request return status {status} content-type 'text/plain; charset=utf-8'"
        f'{header} string {quoted}"\\n"'
    )


def endpoint(address: str, port: int) -> str:
    """As HAProxy writes it."""
    bracketed = f"[{address}]" if isinstance(ip_address(address), IPv6Address) else address
    return f"{bracketed}:{port}"
