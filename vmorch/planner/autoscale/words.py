"""Numbers as reasons say them."""

from __future__ import annotations


def number(value: float) -> str:
    """At most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def share(value: float) -> str:
    return f"{value:.0%}"


def seconds_text(seconds: float) -> str:
    """`90` as 90s, `300` as 5m."""
    minutes = seconds / 60
    return f"{minutes:.0f}m" if minutes > 1 and minutes.is_integer() else f"{number(seconds)}s"
