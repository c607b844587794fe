"""What is made of a step of load that was watched."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from bench import load_shapes, step_report
from bench.load_shapes import Outcome
from bench.picture import Line, Panel, picture
from bench.scaling import Decision
from bench.step_report import Report
from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.use import ServiceUse

BEGAN = 1000.0
SPEC = AutoscaleSpec(max=4, concurrency=4, stabilization_seconds=20, window_seconds=12)


def tick(second: float, instances: int, sessions: float | None, **more: Any) -> ServiceUse:
    at = BEGAN + second
    return ServiceUse(at=at, instances=instances, ready=instances, sessions=sessions, **more)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    for name in ("TABLE", "PICTURE", "TRACE"):
        monkeypatch.setattr(step_report, name, tmp_path / "made" / name)
    return Report(
        spec=SPEC,
        shape=load_shapes.step(2, 11, before=10, during=10, after=10),
        began=BEGAN,
        wanted=3,
        ticks=[
            tick(-1, 1, None),
            tick(9, 1, 2, requests=10),
            tick(11, 1, 11, requests=12, errors=1.5),
            tick(13, 2, 11, requests=55),
            tick(21, 3, 2, requests=50),
            tick(29, 1, 2, requests=10),
        ],
        decisions=[
            Decision(at=BEGAN + 11.1, count=2, reason=""),
            Decision(at=BEGAN + 13.1, count=3, reason=""),
            Decision(at=BEGAN + 25, count=1, reason=""),
        ],
        ready_times=[BEGAN - 5, BEGAN + 12, BEGAN + 15.5],
        outcome=Outcome(requests=500, failed=0),
    )


def test_the_figures_count_from_when_the_load_changed(report: Report) -> None:
    assert report.decision_ticks == 1
    assert report.ready_seconds == 5.5
    assert report.settled_seconds == 9


def test_the_table_has_a_line_for_each_tick_under_load(report: Report) -> None:
    report.write()
    assert step_report.TABLE.read_text() == (
        "second,load,desired,ready,in_flight,rps,failed\n"
        "9.0,2,1,1,2,10,0\n"
        "11.0,11,2,1,11,12,1.5\n"
        "13.0,11,3,2,11,55,0\n"
        "21.0,2,1,3,2,50,0\n"
        "29.0,2,1,1,2,10,0\n"
    )


def test_the_trace_has_the_time_of_the_tick_that_was_decided_on(report: Report) -> None:
    report.write()
    trace = json.loads(step_report.TRACE.read_text())
    assert trace["decisions"] == [
        {"at": 12.0, "count": 2},
        {"at": 14.0, "count": 3},
        {"at": 22.0, "count": 1},
    ]
    assert trace["ticks"][1] == {"at": 10.0, "instances": 1, "ready": 1, "sessions": 2}
    assert AutoscaleSpec(**trace["autoscale"]) == SPEC


SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_has_a_panel_for_each_subject(report: Report) -> None:
    report.write()
    drawing = ElementTree.fromstring(step_report.PICTURE.read_text())
    texts = [element.text for element in drawing.iter(f"{SVG}text")]
    assert texts.count("0 s") == 3
    assert {"requests in flight", "instances", "requests per second"} <= set(texts)


@pytest.mark.parametrize(
    ("stepped", "path"), [(False, "M48.0 158.0L610.0 28.0"), (True, "M48.0 158.0H610.0V28.0")]
)
def test_a_line_goes_from_the_lower_left_to_the_upper_right(stepped: bool, path: str) -> None:
    line = Line(name="<a>", color="#123456", points=[(0, 0), (10, 4)], stepped=stepped)
    drawing = ElementTree.fromstring(picture([Panel(title="", lines=[line])], seconds=10))
    (drawn,) = (e for e in drawing.iter(f"{SVG}path") if e.get("fill") == "none")
    assert drawn.get("d") == path
