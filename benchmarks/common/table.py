"""Tables as GitHub markdown, which also reads well in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["format_figure", "render_table"]


def format_figure(value: float) -> str:
    """Three significant digits, thousands and millions with a letter."""
    size = abs(value)
    for bound, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if size >= bound:
            return f"{_three_digits(value / (1e3 if letter == ' k' else bound))}{letter}"
    return _three_digits(value)


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}"


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; all but the first column to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = [("-" * width if column == 0 else "-" * (width - 1) + ":") for column, width in enumerate(widths)]
    lines = [_line(cells[0], widths), _line(rule, widths), *(_line(row, widths) for row in cells[1:])]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"
