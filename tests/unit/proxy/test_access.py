"""What HAProxy writes into its ring, read."""

from __future__ import annotations

from vmorch.model.access import Access
from vmorch.proxy.access import read_accesses, read_answer_times

# Written by HAProxy 2.6.12 with the format of vmorch.proxy.access.
SAID = r"""
{"time":1795539076.014,"client":"127.0.0.1","http":2,"tls":"TLSv1.3","method":"GET","host":"a.localhost","uri":"\/\u00fc\"?x=1","status":200,"sent_bytes":75,"received_bytes":90,"all":1250,"wait":30,"connect":20,"answer":1200,"end":"--","backend":"shop.web.80.http.1","server":"web-3"}
{"time":1795539076.578,"client":"::1","http":1,"tls":"-","method":"POST","host":"-","uri":"/","status":503,"sent_bytes":9,"received_bytes":0,"all":0,"wait":-1,"connect":-1,"answer":-1,"end":"LR","backend":"shop.web.80.http","server":"<NOSRV>"}
{"time":1795539076.600,"client":"::1","http":1,"tls":"-","method":"<BADREQ>","host":"-","uri":"-","status":400,"sent_bytes":0,"received_bytes":0,"all":0,"wait":-1,"connect":-1,"answer":-1,"end":"PR","backend":"http","server":"<NOSRV>"}

"""


def test_lines_are_read_and_what_was_no_request_is_left_out() -> None:
    first, second = read_accesses(SAID)
    assert first == Access(
        time=1795539076.014,
        environment="shop",
        service="web",
        instance="web-3",
        client="127.0.0.1",
        http=2,
        tls="TLSv1.3",
        method="GET",
        host="a.localhost",
        uri='/ü"?x=1',
        status=200,
        sent_bytes=75,
        received_bytes=90,
        seconds=1.25,
        wait_seconds=0.03,
        connect_seconds=0.02,
        answer_seconds=1.2,
        end="--",
    )
    [through_the_gate] = read_accesses(SAID.splitlines()[1].replace('"web-3"', '"gate"'))
    assert through_the_gate.instance is None
    assert (second.instance, second.tls) == (None, "")
    assert (second.wait_seconds, second.answer_seconds) == (None, None)


def test_without_the_ring_there_is_nothing() -> None:
    assert read_accesses("Can't find that sink: vmorch-access.\n") == []
    assert read_accesses("") == []
    assert read_answer_times("Can't find that sink: vmorch-access.\n") == {}


def test_a_line_that_cannot_be_read_hides_no_other() -> None:
    cut = '{"time":1795539076.1,"client":"::1","backend":"shop.web.80.http","uri":"/aaa'
    older = '{"time":1795539076.1,"backend":"shop.web.80.http"}'
    assert len(read_accesses(f"{cut}\n{older}\n{SAID}")) == 2


def test_times_are_of_requests_with_an_answer() -> None:
    assert read_answer_times(SAID) == {("shop", "web"): [1.25]}


def test_what_a_client_writes_is_nobodys_time() -> None:
    """HAProxy writes its quotes as JSON does."""
    uri = r"/?\"wait\":0,\"connect\":0,\"answer\":0,\"end\":\"--\",\"backend\":\"shop.db.80.http\""
    line = SAID.strip().split("\n")[0].replace(r"\/\u00fc\"?x=1", uri)
    assert uri in line
    assert read_answer_times(line) == {("shop", "web"): [1.25]}
