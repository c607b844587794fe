"""The examples beside docs/metrics.md ask for names that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.metrics.looks import look
from vmorch.metrics.exposition import exposition
from vmorch.metrics.history import History
from vmorch.model.use import HostUse

DOCS = Path(__file__).parents[3] / "docs"
HOST = HostUse(at=1, cpus=1, busy_cpus=1, memory_bytes=1, available_bytes=1, merged_bytes=0)
NAME = re.compile(r"\bvmorch_[a-z0-9_]+")


def known() -> set[str]:
    """Every name that Prometheus stores: a counter's with _total."""
    history = History()
    history.take(look(1.0, host=HOST))
    families = text_string_to_metric_families(exposition(history, "1").decode())
    return {f.name + ("_total" if f.type == "counter" else "") for f in families}


def asked(file: str) -> set[str]:
    text = (DOCS / "metrics" / file).read_text()
    document: Any = json.loads(text) if file.endswith(".json") else yaml.safe_load(text)
    return set(NAME.findall(json.dumps(document)))


@pytest.mark.parametrize("file", ["alerts.yml", "grafana.json"])
def test_an_example_asks_for_what_there_is(file: str) -> None:
    assert asked(file)
    assert asked(file) - known() == set()


def test_the_page_lists_every_name_and_no_other() -> None:
    listed = set(NAME.findall((DOCS / "metrics.md").read_text()))
    assert listed == known()
