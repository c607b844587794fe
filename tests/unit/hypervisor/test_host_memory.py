"""The host's kernel killed for want of memory: seen by its counter, for two looks."""

from __future__ import annotations

from pathlib import Path

from vmorch.hypervisor.host_memory import OomKills


def test_a_kill_is_recent_until_the_look_after_the_next(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 7\noom_kill 3\n")
    kills = OomKills(vmstat)
    assert not kills.recent()
    vmstat.write_text("pgfault 7\noom_kill 4\n")
    assert kills.recent()
    kills.mark()
    assert kills.recent()
    kills.mark()
    assert not kills.recent()


def test_a_kernel_that_does_not_say_is_no_kill(tmp_path: Path) -> None:
    assert not OomKills(tmp_path / "none").recent()
