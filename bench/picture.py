"""Lines over time as a picture (SVG): panels above each other that share the axis of time."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 760
LEFT, RIGHT, TOP = 48, 150, 28
HEIGHT = 130
GAP = 48
GRID = "#dddddd"
INK = "#333333"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points in the order of time. `stepped`: each value holds until the next one."""

    name: str
    color: str
    points: Sequence[Point]
    stepped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    title: str
    lines: Sequence[Line]


def picture(panels: Sequence[Panel], *, seconds: float) -> str:
    """Of the time from 0 to `seconds`."""
    height = TOP + len(panels) * (HEIGHT + GAP)
    drawn = (
        _panel(panel, TOP + number * (HEIGHT + GAP), seconds) for number, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{"".join(drawn)}</svg>\n'
    )


def _panel(panel: Panel, top: int, seconds: float) -> str:
    most = max((value for line in panel.lines for _, value in line.points), default=1)
    scale = _Scale(top=top, seconds=seconds, most=_ceiling(most))
    keys = (_key(line, top + 14 + 18 * number) for number, line in enumerate(panel.lines))
    lines = (_line(line, scale) for line in panel.lines)
    title = _text(LEFT, top - 8, panel.title, weight="bold")
    return "".join([title, *_grid(scale), *lines, *keys])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    top: int
    seconds: float
    most: float

    def x(self, second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds

    def y(self, value: float) -> float:
        return self.top + HEIGHT * (1 - value / self.most)


def _ceiling(most: float) -> float:
    """The next value that four even parts make a good grid of."""
    unit = 10 ** math.floor(math.log10(max(most, 1)))
    return next(size * unit for size in (1, 1.2, 2, 4, 6, 8, 10) if size * unit >= most)


def _grid(scale: _Scale) -> list[str]:
    right = scale.x(scale.seconds)
    found = []
    for part in range(5):
        value = scale.most * part / 4
        y = scale.y(value)
        found.append(f'<path d="M{LEFT} {y:.1f}H{right:.1f}" stroke="{GRID}"/>\n')
        found.append(_text(LEFT - 6, y + 4, f"{value:g}", anchor="end"))
    for second in range(0, int(scale.seconds) + 1, 30):
        found.append(
            _text(scale.x(second), scale.top + HEIGHT + 16, f"{second} s", anchor="middle")
        )
    return found


def _line(line: Line, scale: _Scale) -> str:
    path = ""
    for second, value in line.points:
        x, y = scale.x(second), scale.y(value)
        path += (
            (f"H{x:.1f}V{y:.1f}" if line.stepped else f"L{x:.1f} {y:.1f}")
            if path
            else (f"M{x:.1f} {y:.1f}")
        )
    return f'<path d="{path}" fill="none" stroke="{line.color}" stroke-width="1.5"/>\n'


def _key(line: Line, y: int) -> str:
    x = WIDTH - RIGHT + 14
    dash = f'<path d="M{x} {y - 4}h18" stroke="{line.color}" stroke-width="3"/>\n'
    return dash + _text(x + 24, y, line.name)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{html.escape(text)}</text>\n'
    )
