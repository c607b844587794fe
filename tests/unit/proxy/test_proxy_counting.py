"""HAProxy 2.6's own words, cut down to the columns that are read, as counters."""

from __future__ import annotations

import pytest

from vmorch.errors import ProxyError
from vmorch.model.counters import TrafficCounters
from vmorch.proxy.counting import read_counters

COLUMNS = (
    "svname,qcur,scur,stot,econ,eresp,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,"
    "last_chk,ttime,rtime_max,mode,"
)


def answer(*rows: str) -> str:
    lines = "\n".join(rows)
    return f"Name: HAProxy\nPid: 123\nUptime: 1\n\n# pxname,{COLUMNS}\n{lines}\n\n"


def test_servers_and_backends() -> None:
    report = read_counters(
        answer(
            "shop.web.80.http,web-1,1,2,30,4,5,0,20,1,2,3,0,,250,4000,http,",
            "shop.web.80.http,BACKEND,6,8,31,4,5,0,20,1,2,12,0,,260,5000,http,",
        )
    )
    assert report.life == 123
    assert report.servers["shop.web.80.http", "web-1"] == TrafficCounters(
        sessions=2,
        queued=1,
        connections=30,
        requests=26,
        errors=3 + 4 + 5,
        response_seconds=0.25,
        slowest_seconds=4.0,
    )
    backend = report.backends["shop.web.80.http"]
    assert (backend.queued, backend.requests) == (6, 35)
    assert backend.errors == 12, "a failed connection is its 503 already"


def test_where_bytes_pass_unread_there_are_connections_and_no_requests() -> None:
    report = read_counters(answer("shop.db.5432.tcp,BACKEND,0,1,9,2,0,,,,,,,,40,50,tcp,"))
    counters = report.backends["shop.db.5432.tcp"]
    assert (counters.connections, counters.requests, counters.errors) == (9, 0, 2)
    assert counters.response_seconds is None


def test_a_checks_words_move_no_column() -> None:
    row = 'shop.web.80.http,web-1,0,0,1,0,0,0,1,0,0,0,0,"got 500, not 200",70,80,http,'
    report = read_counters(answer(row))
    assert report.servers["shop.web.80.http", "web-1"].response_seconds == 0.07


@pytest.mark.parametrize("text", ["", "Unknown command.", "Pid: 5\n"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ProxyError):
        read_counters(text)
