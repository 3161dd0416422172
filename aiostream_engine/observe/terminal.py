"""The live terminal view: one table of figures, tables of top entries, the latest failures.

On a terminal it is redrawn in place; elsewhere it is one plain line a period. Text that comes
from the stream is escaped: it can neither forge markup nor move the cursor (scenario J4).
Needs the extra ``cli`` (rich); nothing else in this room does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .events import ReceiverInfo
from .logs import neutralise
from .redaction import redact
from .statistics import DelayStatistics, StatisticsSnapshot

__all__ = ["TerminalView", "TopTable", "format_bytes", "format_count", "format_seconds"]

CELL_CHARS_MAX = 60
PROSE_CHARS_MAX = 300
BAR_CELLS = 12


@dataclass(frozen=True, slots=True)
class TopTable:
    """The first entries of a ranking, ready to be shown; ``note`` says of what time."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    note: str = ""


def format_count(number: float) -> str:
    """A number for people: ``950``, ``12.3k``, ``4.56M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= limit:
            return f"{number / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{number:,.0f}"


def format_bytes(number: float) -> str:
    """An amount of bytes for people: ``512 B``, ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def format_seconds(seconds: float) -> str:
    """A duration for people: ``1.4 ms``, ``2.50 s``."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _safe(text: object) -> Text:
    return Text(neutralise(redact(str(text)), CELL_CHARS_MAX), no_wrap=True, overflow="ellipsis")


def _prose(text: str) -> Text:
    return Text(neutralise(redact(text), PROSE_CHARS_MAX))


def _bar(share: float) -> Text:
    share = min(1.0, max(0.0, share))
    filled = round(share * BAR_CELLS)
    style = "red" if share > 0.9 else "yellow" if share > 0.5 else "green"
    return Text.assemble(("█" * filled, style), ("░" * (BAR_CELLS - filled), "dim"), f" {share:4.0%}")


def _delay(figures: DelayStatistics) -> str:
    if not figures.count:
        return "–"
    return (
        f"{format_seconds(figures.last_s)}   avg {format_seconds(figures.avg_s)}"
        f"   p50 {format_seconds(figures.p50_s)}   p99 {format_seconds(figures.p99_s)}"
    )


def _rate(figures: StatisticsSnapshot) -> str:
    parts = []
    if figures.records_total or not figures.bytes_total:
        parts.append(f"{format_count(figures.input_rate)} records/s")
    if figures.bytes_total:
        parts.append(f"{format_bytes(figures.input_bytes_rate)}/s")
    return "   ".join(parts)


def _receiver(info: ReceiverInfo) -> Text:
    text = _bar(info.queue_fill)
    text.append(f"   {format_count(info.queue_records)} records, {format_bytes(info.queue_bytes)}")
    if info.lag:
        text.append(f"   lag {format_count(sum(info.lag.values()))}")
        worst = max(info.lag, key=lambda name: info.lag[name])
        if len(info.lag) > 1 and info.lag[worst]:
            text.append(f", most {format_count(info.lag[worst])} in {_safe(worst)}")
    if info.held_back:
        text.append(f"   {format_count(info.held_back)} uncommitted", "yellow")
    if not info.active:
        text.append("   stopped", "dim")
    if info.restarts:
        text.append(f"   {info.restarts} restarts", "yellow")
    return text


def _queue_label(info: ReceiverInfo, figures: StatisticsSnapshot) -> Text:
    # Named only when there are several: the column must leave room on a screen of 80 columns.
    return Text("queue") if len(figures.receivers) == 1 else Text.assemble("queue ", _safe(info.name))


class TerminalView:
    """Shows a stream while it runs, and a summary at the end.

    read: gives the figures of this moment; called on the event loop.
    title: what is running.
    refresh_s: seconds between two pictures; lines_s: seconds between two plain lines.
    live: redraw in place; by default when the console is a terminal.
    redirect: while live, show what the process prints on the terminal above the picture; replaces
        ``sys.stderr`` and perhaps ``sys.stdout`` meanwhile, so it is for programs that own the process.
    Drawing happens in a thread, so a slow terminal holds up pictures and nothing else.
    """

    def __init__(
        self,
        read: Callable[[], StatisticsSnapshot],
        *,
        title: str = "stream",
        console: Console | None = None,
        refresh_s: float = 0.25,
        lines_s: float = 2.0,
        live: bool | None = None,
        redirect: bool = False,
    ) -> None:
        self._read = read
        self._redirect = redirect
        self._title = title
        self._console = Console(stderr=True) if console is None else console
        self._is_live = self._console.is_terminal if live is None else live
        self._period_s = refresh_s if self._is_live else lines_s
        self._tops: dict[str, TopTable] = {}
        self._hint = ""

    @property
    def is_live(self) -> bool:
        """True when the view is redrawn in place, False when it writes plain lines."""
        return self._is_live

    def set_top(self, title: str, rows: Iterable[Sequence[Any]], *, note: str = "") -> None:
        """Show a ranking beside the figures: rows of (entry, amount); replaces the one of this title."""
        cells = tuple((str(entry), format_amount(amount)) for entry, amount in rows)
        self._tops[title] = TopTable(title, cells, note)

    def set_hint(self, text: str) -> None:
        """Show a line under everything, such as how to end."""
        self._hint = text

    async def run(self) -> None:
        """Draw until cancelled; the last picture stays on the screen."""
        if self._is_live:
            await self._run_live()
        else:
            await self._run_lines()

    async def _run_live(self) -> None:
        live = Live(
            self.render(self._read()),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=self._redirect and sys.stdout.isatty(),
            redirect_stderr=self._redirect,
        )
        await asyncio.to_thread(live.start, refresh=True)
        try:
            while True:
                await asyncio.sleep(self._period_s)
                await asyncio.to_thread(live.update, self.render(self._read()), refresh=True)
        finally:
            live.update(self.render(self._read()))
            live.stop()

    async def _run_lines(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            line = self.line(self._read())
            await asyncio.to_thread(self._console.print, line, soft_wrap=True)

    def line(self, figures: StatisticsSnapshot) -> Text:
        """The figures as one plain line."""
        parts = [
            f"batches={figures.batches_completed}",
            f"failed={figures.batches_failed}",
            f"rate_in={figures.input_rate:.0f}/s",
            f"processing={format_seconds(figures.processing_delay.last_s)}",
            f"scheduling_delay={format_seconds(figures.scheduling_delay.last_s)}",
            f"queue_fill={figures.queue_fill:.0%}",
        ]
        if any(info.lag for info in figures.receivers):
            parts.append(f"lag={sum(sum(info.lag.values()) for info in figures.receivers)}")
        for top in self._tops.values():
            entries = ", ".join(f"{_safe(entry)}:{_safe(amount)}" for entry, amount in top.rows[:5])
            parts.append(f"{_safe(top.title)}=[{entries}]")
        return Text("  ".join(parts))

    def render(self, figures: StatisticsSnapshot) -> RenderableType:
        """The whole picture of one moment."""
        parts: list[RenderableType] = [self._figures(figures)]
        if self._tops:
            parts.append(Columns([self._top(top) for top in self._tops.values()], padding=(0, 3)))
        if figures.last_failures:
            parts.append(self._failures(figures.last_failures))
        if self._hint:
            parts.append(Text(self._hint, style="dim"))
        return Group(*parts)

    def _figures(self, figures: StatisticsSnapshot) -> Panel:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column()
        for name, value in self._rows(figures):
            grid.add_row(name, value)
        state = "running" if figures.active else "stopped"
        title = Text.assemble(_prose(self._title), f" · {state} · {figures.uptime_s:.0f} s")
        return Panel(grid, title=title, title_align="left", expand=False)

    def _rows(self, figures: StatisticsSnapshot) -> list[tuple[Text | str, Text | str]]:
        batches = f"{figures.batches_completed} done, {figures.batches_waiting} waiting"
        if figures.ticks_coalesced:
            batches += f", {figures.ticks_coalesced} ticks coalesced"
        done = Text(batches)
        if figures.batches_failed:
            done.append(f", {figures.batches_failed} failed", "bold red")
        rows: list[tuple[Text | str, Text | str]] = [
            ("rate in", _rate(figures)),
            ("batch time", _delay(figures.processing_delay)),
            ("scheduling delay", _delay(figures.scheduling_delay)),
            ("total delay", _delay(figures.total_delay)),
            ("batches", done),
        ]
        rows += [(_queue_label(info, figures), _receiver(info)) for info in figures.receivers]
        if figures.workers_lost:
            rows.append(("workers lost", Text(str(figures.workers_lost), style="bold red")))
        return rows

    def _top(self, top: TopTable) -> Table:
        # Without lines and header: the whole picture fits a screen of 24 lines.
        table = Table(
            title=_safe(top.title),
            caption=_safe(top.note) if top.note else None,
            title_justify="left",
            caption_justify="left",
            title_style="bold",
            box=None,
            show_header=False,
            min_width=28,
        )
        table.add_column(no_wrap=True)
        table.add_column(justify="right")
        for entry, amount in top.rows:
            table.add_row(_safe(entry), _safe(amount))
        return table

    def _failures(self, failures: Sequence[str]) -> Panel:
        lines = [_prose(failure) for failure in failures[-3:]]
        return Panel(Group(*lines), title="latest failures", title_align="left", style="red", expand=False)

    def summary(self, *, outcome: str = "") -> None:
        """Print what the whole run came to. Blocks while the terminal does: call it at the end."""
        figures = self._read()
        table = Table(title=_prose(f"summary of {self._title}"), show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column()
        for name, value in _summary_rows(figures, outcome):
            table.add_row(name, value)
        with contextlib.suppress(BrokenPipeError):
            self._console.print(table)
            if not self._is_live:
                for top in self._tops.values():
                    self._console.print(self._top(top))


def format_amount(amount: Any) -> str:
    """An amount of a ranking: integers grouped by thousands, others as they are."""
    if isinstance(amount, int) and not isinstance(amount, bool):
        return f"{amount:,}"
    return str(amount)


def _summary_rows(figures: StatisticsSnapshot, outcome: str) -> list[tuple[str, Text]]:
    rows = [
        ("ran for", f"{figures.uptime_s:.1f} s"),
        ("batches", f"{figures.batches_completed} done, {figures.batches_failed} failed"),
        ("records in", format_count(figures.records_total)),
    ]
    if figures.bytes_total:
        rows.append(("bytes in", format_bytes(figures.bytes_total)))
    rows += [
        ("batch time", _delay(figures.processing_delay)),
        ("total delay", _delay(figures.total_delay)),
        ("receiver errors", str(figures.receiver_errors)),
        ("workers lost", str(figures.workers_lost)),
    ]
    rows += [("last failure", failure) for failure in figures.last_failures[-1:]]
    if outcome:
        rows.append(("ended", outcome))
    return [(name, _prose(value)) for name, value in rows]
