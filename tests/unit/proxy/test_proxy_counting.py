"""HAProxy 2.6's own words, cut down to the columns that are read, as counters."""

from __future__ import annotations

from typing import Any

import pytest

from vmorch.errors import ProxyError
from vmorch.model.counters import TrafficCounters, TrafficReport
from vmorch.proxy.counting import read_counters, read_traffic, with_leaving
from vmorch.proxy.running import read_status

NUMBERS = (
    *("scur", "stot", "econ", "eresp", "act", "bck"),
    *("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"),
    *("qtime", "ctime", "rtime", "ttime", "rtime_max"),
)
WEB = "shop.web.80.http"


def row(server: str, *, backend: str = WEB, mode: str = "http", chk: str = "", **found: Any) -> str:
    numbers = ",".join(str(found.get(name, 0)) for name in NUMBERS)
    return f"{backend},{server},{numbers},{chk},UP,{mode},"


def answer(*rows: str) -> str:
    header = f"# pxname,svname,{','.join(NUMBERS)},last_chk,status,mode,"
    return "\n".join(["Name: HAProxy", "Pid: 123", "Uptime: 1", "", header, *rows, "", ""])


def test_servers_and_backends() -> None:
    codes = {"hrsp_1xx": 0, "hrsp_2xx": 20, "hrsp_3xx": 1, "hrsp_4xx": 2}
    web = {"stot": 30, "econ": 4, "eresp": 5, **codes, "rtime_max": 4000}
    report = read_counters(
        answer(
            row("web-1", scur=2, hrsp_5xx=3, **web),
            row("BACKEND", scur=2, act=1, hrsp_5xx=12, **web),
        )
    )
    assert report.life == 123
    assert report.servers[WEB, "web-1"] == TrafficCounters(
        sessions=2,
        connections=30,
        requests=26,
        errors=3 + 4 + 5,
        response_seconds=0.0,
        slowest_seconds=4.0,
    )
    backend = report.backends[WEB]
    assert (backend.sessions, backend.requests) == (2, 35)
    assert backend.errors == 12, "a failed connection is its 503 already"


def test_a_response_takes_from_the_request_to_its_first_byte() -> None:
    """A client that pauses between two requests has its pause in `ttime`."""
    report = read_counters(answer(row("web-1", hrsp_2xx=4, qtime=30, ctime=5, rtime=15, ttime=751)))
    assert report.servers[WEB, "web-1"].response_seconds == 0.05


def test_where_bytes_pass_unread_there_are_connections_and_no_requests() -> None:
    line = f"shop.db.5432.tcp,BACKEND,1,9,2,0,1,0{',' * 7}0,0,0,40,50,,UP,tcp,"
    counters = read_counters(answer(line)).backends["shop.db.5432.tcp"]
    assert (counters.connections, counters.requests, counters.errors) == (9, 0, 2)
    assert counters.response_seconds is None


def test_a_checks_words_move_no_column() -> None:
    line = row("web-1", chk='"got 500, not 200"', hrsp_2xx=1, rtime=70)
    assert read_counters(answer(line)).servers[WEB, "web-1"].response_seconds == 0.07


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028"])
def test_a_guest_cannot_speak_for_another_service(end: str) -> None:
    """HAProxy passes on what it answers a check with, whatever that does to a line elsewhere."""
    forged = f"500 no{end}{row('web-1', backend='other.web.80.http', scur=9)}{end}"
    text = answer(row("web-1", chk='"' + forged + '"'))
    assert set(read_counters(text).servers) == {(WEB, "web-1")}
    assert set(read_status(text)) == {(WEB, "web-1")}


def test_what_is_in_the_backend_and_with_no_server_waits() -> None:
    report = read_counters(answer(row("web-1", scur=2), row("BACKEND", scur=5)))
    backend = report.backends[WEB]
    assert (backend.sessions, backend.queued) == (2, 3)


def test_where_there_is_a_server_nobody_waits() -> None:
    """But a client may still take the last of an answer that its server has long given."""
    report = read_counters(answer(row("web-1", scur=2), row("BACKEND", scur=5, act=1)))
    assert (report.backends[WEB].sessions, report.backends[WEB].queued) == (5, 0)


def test_what_a_leaving_worker_has_open_counts_and_what_it_counted_does_not() -> None:
    """What waited there is with the new worker, which it reached by the gate."""
    new = read_counters(answer(row("web-1", scur=1, stot=4), row("BACKEND", scur=3, stot=4)))
    old = read_traffic(
        answer(
            row("web-1", scur=7, stot=900),
            row("web-9", scur=1, stot=900),
            row("gate", scur=2, stot=900),
            row("BACKEND", scur=10, stot=900),
            row("BACKEND", backend="gone.web.80.http", scur=4),
        )
    )
    report = with_leaving(new, [old, TrafficReport()])
    assert report.life == 123
    assert report.servers == {(WEB, "web-1"): TrafficCounters(sessions=8, connections=4)}
    assert report.backends == {WEB: TrafficCounters(sessions=9, queued=2, connections=4)}


WHOLE = answer(row("web-1"), row("BACKEND"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Unknown command.",
        "Pid: 5\n",
        WHOLE.removesuffix("\n"),
        WHOLE[: WHOLE.index("BACKEND") + 20],
        WHOLE.replace("web-1,0", "web-1,many"),
        WHOLE.replace("svname", "name"),
        WHOLE.replace("scur", "open"),
        WHOLE.replace("web-1,", ""),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ProxyError):
        read_counters(text)
