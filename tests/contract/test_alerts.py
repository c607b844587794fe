"""The alerts beside docs/metrics.md, told by promtool what vmorch measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

RULES = Path(__file__).parents[2] / "docs" / "metrics" / "alerts.yml"
PROMTOOL = Path(sys.prefix) / "share" / "prometheus" / "promtool"
SCRAPE_SECONDS = 15
MINUTES = 20
SCRAPES = MINUTES * 60 // SCRAPE_SECONDS

Labels = dict[str, str]
Series = dict[str, str]
"""By name and labels, the values that are scraped one after the other, as promtool writes them."""

WEB: Labels = {"environment": "shop", "service": "web"}
GUEST: Labels = {**WEB, "instance": "web-1"}


def written(name: str, labels: Labels) -> str:
    return name + "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def service(*, desired: int, ready: int, instances: int) -> Series:
    counts = {"desired_instances": desired, "ready_instances": ready, "instances": instances}
    return {written(f"vmorch_service_{name}", WEB): f"{n}x{SCRAPES}" for name, n in counts.items()}


def memory(*, used: int, usable: int, limit: int) -> Series:
    sizes = {"used_bytes": used, "usable_bytes": usable, "limit_bytes": limit}
    return {
        written(f"vmorch_instance_memory_{name}", GUEST): f"{n}x{SCRAPES}"
        for name, n in sizes.items()
    }


def failures(source: str, steps: str) -> Series:
    return {written("vmorch_sample_failures_total", {"source": source}): steps}


def failing_once() -> Series:
    return failures("proxy", f"0x{SCRAPES // 2} 1x{SCRAPES // 2}")


@pytest.mark.parametrize(
    ("series", "firing"),
    [
        (service(desired=3, ready=1, instances=3), {}),
        (service(desired=3, ready=0, instances=3), {"VmorchServiceDown": WEB}),
        (service(desired=3, ready=0, instances=0), {"VmorchServiceDown": WEB}),
        # Asleep, stopped, or a task that has completed.
        (service(desired=0, ready=0, instances=1), {}),
        (memory(used=60, usable=80, limit=96), {}),
        (memory(used=75, usable=80, limit=96), {"VmorchInstanceMemory": GUEST}),
        (failures("proxy", f"0x{SCRAPES}"), {}),
        (failures("proxy", f"0+7x{SCRAPES}"), {"VmorchSourceSilent": {"source": "proxy"}}),
        (failing_once(), {}),
        ({written("vmorch_service_queued", WEB): f"2x{SCRAPES}"}, {"VmorchServiceQueues": WEB}),
    ],
)
def test_what_an_alert_is_given_for(
    series: Series, firing: dict[str, Labels], tmp_path: Path
) -> None:
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(story(series, firing)))
    checked = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def story(series: Series, firing: dict[str, Labels]) -> dict[str, object]:
    """`firing` are all alerts that are given at any time."""
    alerts = [
        {"labels": written("", {"alertname": name, "alertstate": "firing", **labels}), "value": 1}
        for name, labels in firing.items()
    ]
    given = f'max_over_time(ALERTS{{alertstate="firing"}}[{MINUTES}m])'
    return {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
        "tests": [
            {
                "interval": f"{SCRAPE_SECONDS}s",
                "input_series": [{"series": name, "values": v} for name, v in series.items()],
                "promql_expr_test": [
                    {"expr": given, "eval_time": f"{MINUTES}m", "exp_samples": alerts}
                ],
            }
        ],
    }
