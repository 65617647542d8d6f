"""Small multiples as SVG, without a library: a panel for each quantity, all over the same time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from .growth import Points

COLUMNS = 2
PANEL_WIDTH, PANEL_HEIGHT = 560, 210
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 46, 38
"""Margins of a panel around its axes."""
HEAD = 74
COLOURS = ("#1f5fa8", "#c2571a", "#3c7a35")
_STYLE = (
    "text{font-family:Helvetica,Arial,DejaVu Sans,sans-serif;font-size:12px;fill:#333}"
    ".title{font-size:14px;font-weight:bold}.head{font-size:18px;font-weight:bold}"
    ".grid{stroke:#ddd}.axis{stroke:#888}.kill{stroke:#b00;stroke-opacity:.35}"
    ".line{fill:none;stroke-width:1.6;stroke-linejoin:round}"
)


@dataclass(frozen=True)
class Panel:
    """A panel of one quantity, from one or several sources."""

    title: str
    unit: str
    lines: dict[str, Points] = field(default_factory=dict)
    """Lines by name. Each has seconds and values."""
    marks: Sequence[float] = ()
    """Moments (seconds) to mark, such as kills."""


def nice_ticks(largest: float, about: int = 4) -> list[float]:
    """Ticks from 0 to at least `largest`, in steps of 1, 2 or 5.

    >>> nice_ticks(7.2)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    >>> nice_ticks(0)
    [0.0, 1.0]
    """
    if largest <= 0:
        return [0.0, 1.0]
    rough = largest / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * multiple for multiple in (1, 2, 5, 10) if power * multiple >= rough * 0.999)
    return [step * count for count in range(math.ceil(largest / step - 1e-9) + 1)]


def drawing(title: str, subtitle: str, panels: Sequence[Panel], seconds: float) -> str:
    """Draw all panels and return the SVG's text."""
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * PANEL_WIDTH, HEAD + rows * PANEL_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text class="head" x="20" y="30">{escape(title)}</text>',
        f'<text x="20" y="52">{escape(subtitle)}</text>',
    ]
    for at, panel in enumerate(panels):
        x, y = at % COLUMNS * PANEL_WIDTH, HEAD + at // COLUMNS * PANEL_HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel, seconds)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, seconds: float) -> str:
    ticks = nice_ticks(
        max((value for line in panel.lines.values() for _, value in line), default=0)
    )
    across, down = PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM

    def x(at: float) -> float:
        return round(LEFT + across * at / seconds, 1)

    def y(value: float) -> float:
        return round(TOP + down * (1 - value / ticks[-1]), 1)

    parts = [
        f'<text class="title" x="{LEFT}" y="18">{escape(panel.title)}, {escape(panel.unit)}</text>'
    ]
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick)}h{across}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:,g}</text>')
    for minutes in nice_ticks(seconds / 60, 6):
        if minutes * 60 <= seconds * 1.001:
            tick_x = x(minutes * 60)
            parts.append(f'<path class="axis" d="M{tick_x} {TOP + down}v5"/>')
            parts.append(
                f'<text x="{tick_x}" y="{TOP + down + 19}" text-anchor="middle">{minutes:g}</text>'
            )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}v{down}h{across}" fill="none"/>')
    parts.append(
        f'<text x="{LEFT + across}" y="{TOP + down + 33}" text-anchor="end">minutes</text>'
    )
    parts += [f'<path class="kill" d="M{x(at)} {TOP}v{down}"/>' for at in panel.marks]
    label_at = float(LEFT)
    for colour, (name, line) in zip(COLOURS, panel.lines.items(), strict=False):
        path = " ".join(f"{x(at)},{y(value)}" for at, value in line)
        parts.append(f'<polyline class="line" stroke="{colour}" points="{path}"/>')
        parts.append(f'<path d="M{label_at:g} 33h16" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{label_at + 21:g}" y="37">{escape(name)}</text>')
        label_at += 40 + 6.6 * len(name)
    return "".join(parts)
