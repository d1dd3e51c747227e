"""Bars as plain SVG, one file for each scenario: legible on light and on dark ground, without any library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, LABEL, VALUE, ROW, TITLE = 720, 150, 110, 24, 34
"""In pixels: the picture, the names on its left, the figures on its right, a bar with its gap, a panel's title."""
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600 }
.ours { fill: #1f6feb }
.peer { fill: #8c959f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .peer { fill: #6e7681 } }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One server's figure and how it is written."""

    name: str
    figure: float
    text: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure, each on a scale of its own that begins at nothing."""

    title: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        return TITLE + ROW * len(self.bars)


def svg(title: str, panels: Sequence[Panel]) -> str:
    """The picture of one scenario."""
    height = TITLE + sum(panel.height for panel in panels) + 8
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)}>',
        f"<style>{_STYLE}</style>",
        _text(0, 20, title, "head"),
    ]
    top = TITLE
    for panel in panels:
        parts += _panel(panel, top)
        top += panel.height
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: int) -> list[str]:
    parts = [_text(0, top + 18, panel.title)]
    longest = max((bar.figure for bar in panel.bars), default=0.0)
    for number, bar in enumerate(panel.bars):
        y = top + TITLE - 8 + number * ROW
        width = (WIDTH - LABEL - VALUE) * bar.figure / longest if longest else 0.0
        kind = "ours" if bar.ours else "peer"
        parts.append(_text(LABEL - 8, y + 13, bar.name, anchor="end"))
        parts.append(f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{max(width, 1):.1f}" height="17" rx="2"/>')
        parts.append(_text(LABEL + max(width, 1) + 6, y + 13, bar.text))
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
