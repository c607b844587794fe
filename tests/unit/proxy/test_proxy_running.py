"""What HAProxy 2.6 really answered, read."""

from __future__ import annotations

import pytest

from vmorch.errors import ProxyError
from vmorch.proxy.process import alerts
from vmorch.proxy.protocol import ServerStatus
from vmorch.proxy.running import Processes, read_processes, read_status, read_worker

WORKER = """\
Name: HAProxy
Pid: 603
node: vm
description: vmorch 0123456789abcdef
Stopping: 0

1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl \
srv_check_port srv_check_addr srv_agent_addr srv_agent_port
4 shop.orders.80 1 orders-1 127.0.0.1 0 0 100 100 4 8 2 0 6 0 0 1 - 9001 - 0 0 - - 0
4 shop.orders.80 2 orders-2 127.0.0.1 0 5 100 100 4 1 0 0 14 0 0 1 - 9002 - 0 0 - - 0
4 shop.orders.80 3 orders-3 127.0.0.1 2 8 50 100 1 1 0 1 2 0 0 1 - 9003 - 0 0 - - 0
5 shop.orders.81 1 orders-1 127.0.0.1 2 12 100 100 3 1 0 2 0 0 0 1 - 9001 - 0 0 - - 0

"""

PROCESSES = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
10              master          2 [failed: 1]   0d00h00m07s     2.6.12-1+deb12u4
# workers
229             worker          1               0d00h00m06s     2.6.12-1+deb12u4
# old workers
11              worker          2               0d00h00m07s     2.6.12-1+deb12u4
12              worker          3               0d00h00m07s     2.6.12-1+deb12u4
# programs

"""

STATUS = """\
# pxname,svname,qcur,qmax,scur,smax,status,
a.web.80,web-1,0,0,2,0,UP,
a.web.80,web-2,0,0,1,0,DRAIN,
a.web.80,web-3,0,0,0,0,DOWN 1/2,
a.web.80,web-4,0,0,0,0,no check,
b.web.80,web-1,0,0,3,0,MAINT,
b.web.80,gate,0,0,1,0,no check,

"""


def test_a_worker_and_its_servers() -> None:
    worker = read_worker(WORKER)
    assert (worker.pid, worker.marker) == (603, "0123456789abcdef")
    first, second, third = worker.servers["shop.orders.80"].values()
    assert (first.id, first.address, first.port, first.weight) == (1, "127.0.0.1", 9001, 100)
    assert (first.admitted, first.checked) == (True, True)
    assert (second.maintenance, second.drained, second.checked) == (True, False, True)
    assert (third.maintenance, third.drained, third.checked) == (False, True, False)
    assert third.weight == 50
    assert worker.servers["shop.orders.81"]["orders-1"].drained


def test_a_worker_without_servers_and_with_a_foreign_file() -> None:
    worker = read_worker("Pid: 7\ndescription: something else\n\n1\n# be_id be_name\n\n")
    assert (worker.pid, worker.marker, worker.servers) == (7, None, {})


def test_what_no_haproxy_answers_is_an_error() -> None:
    with pytest.raises(ProxyError):
        read_worker("Unknown command")
    with pytest.raises(ProxyError):
        read_processes("Unknown command")
    with pytest.raises(ProxyError):
        read_status("Unknown command")
    with pytest.raises(ProxyError):
        read_status(STATUS.removesuffix("\n"))


def test_the_masters_processes() -> None:
    assert read_processes(PROCESSES) == Processes(reloads=2, failed=1, worker=229, leaving=(11, 12))
    calm = PROCESSES.partition("# old workers")[0].replace("failed: 1", "failed: 0")
    assert read_processes(calm) == Processes(reloads=2, failed=0, worker=229, leaving=())


def test_sessions_and_verdicts() -> None:
    assert read_status(STATUS) == {
        ("a.web.80", "web-1"): ServerStatus(sessions=2, up=True),
        ("a.web.80", "web-2"): ServerStatus(sessions=1, up=True),
        ("a.web.80", "web-3"): ServerStatus(sessions=0, up=False),
        ("a.web.80", "web-4"): ServerStatus(sessions=0, up=True),
        ("b.web.80", "web-1"): ServerStatus(sessions=3, up=False),
    }


def test_alerts_are_haproxys_words_without_its_prefixes() -> None:
    output = (
        "[NOTICE]   (9) : haproxy version is 2.6.12\n"
        "[ALERT]    (9) : config : parsing [x:20] : 'bind 1:80' : unknown\n"
        "[ALERT]    (9) : config : Error(s) found in configuration file : x\n"
        "[ALERT]    (9) : config : Fatal errors found in configuration.\n"
    )
    assert alerts(output) == "config : parsing [x:20] : 'bind 1:80' : unknown"
    assert alerts("killed by something\n") == "killed by something"
    assert alerts("") == "it does not say why."
