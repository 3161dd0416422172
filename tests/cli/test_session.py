from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from aiostream_engine.cli.exit_code import ExitCode
from aiostream_engine.cli.session import Session, say_failure
from aiostream_engine.cli.signals import StopSignals
from aiostream_engine.errors import SourceError, StepError
from aiostream_engine.observe.statistics import StatisticsSnapshot
from aiostream_engine.observe.terminal import TerminalView
from aiostream_engine.types import ContextState


class ScriptedContext:
    """The life cycle of a streaming context, each step of which can be told to hang or fail."""

    def __init__(self, *, hang=(), fail=None, ends=False):
        self.state = ContextState.INITIALIZED
        self.calls = []
        self.hang = set(hang)
        self.fail = fail or {}
        self.keeps_deadline = True
        self.ended = asyncio.Event()
        if ends:
            self.ended.set()

    async def _step(self, name):
        self.calls.append(name)
        if name in self.hang:
            await asyncio.Event().wait()
        if name in self.fail:
            raise self.fail[name]

    async def start(self):
        await self._step("start")
        self.state = ContextState.ACTIVE

    async def await_termination(self):
        await self.ended.wait()
        if "run" in self.fail:
            raise self.fail["run"]
        return True

    async def stop(self, graceful=True, timeout_s=None):
        try:
            async with asyncio.timeout(timeout_s if self.keeps_deadline else None):
                await self._step("drain" if graceful else "stop")
        except TimeoutError:
            self.ended.set()
            return False
        self.ended.set()
        return graceful


@pytest.fixture
def signals():
    return StopSignals(lambda _: None)


async def outcome_of(ssc, signals, **options):
    async with asyncio.timeout(30):
        return await Session(ssc, signals, **options).run()


async def test_a_stream_that_ends_by_itself_exits_with_zero(signals):
    ssc = ScriptedContext(ends=True)
    assert (await outcome_of(ssc, signals)).code is ExitCode.OK
    assert ssc.calls == ["start"]


async def test_a_context_that_the_application_started_is_not_started_again(signals):
    ssc = ScriptedContext(ends=True)
    ssc.state = ContextState.ACTIVE
    assert (await outcome_of(ssc, signals)).code is ExitCode.OK
    assert ssc.calls == []


async def test_the_first_signal_drains_and_exits_with_zero(signals):
    """I1"""
    ssc = ScriptedContext()
    signals.drain.set()
    assert (await outcome_of(ssc, signals)).code is ExitCode.OK
    assert ssc.calls == ["start", "drain"]


async def test_the_duration_drains_and_exits_with_zero(signals):
    ssc = ScriptedContext()
    outcome = await outcome_of(ssc, signals, duration_s=0.01)
    assert outcome.code is ExitCode.OK
    assert "0.01 s" in outcome.text
    assert ssc.calls == ["start", "drain"]


async def test_a_drain_past_its_deadline_is_cut_short_and_exits_with_three(signals):
    """I1, F7"""
    ssc = ScriptedContext(hang={"drain"})
    signals.drain.set()
    outcome = await outcome_of(ssc, signals, drain_timeout_s=0.02)
    assert outcome.code is ExitCode.FORCED
    assert ssc.calls[:2] == ["start", "drain"]
    assert "0.02 s" in outcome.text


async def test_the_second_signal_stops_at_once_and_exits_with_three(signals):
    """I1"""
    ssc = ScriptedContext(hang={"drain"})
    signals.drain.set()
    signals.force.set()
    assert (await outcome_of(ssc, signals)).code is ExitCode.FORCED
    assert ssc.calls[-1] == "stop"


async def test_the_second_signal_ends_even_a_start_that_hangs(signals):
    """I1"""
    ssc = ScriptedContext(hang={"start"})
    signals.drain.set()
    signals.force.set()
    assert (await outcome_of(ssc, signals)).code is ExitCode.FORCED


async def test_a_stop_by_force_that_hangs_does_not_hold_up_the_exit(signals, monkeypatch):
    """I1"""
    monkeypatch.setattr("aiostream_engine.cli.session.FORCED_STOP_S", 0.02)
    ssc = ScriptedContext(hang={"drain", "stop"})
    ssc.keeps_deadline = False
    signals.drain.set()
    assert (await outcome_of(ssc, signals, drain_timeout_s=0.02)).code is ExitCode.FORCED


@pytest.mark.parametrize("where", ["start", "run", "drain"])
async def test_a_failure_exits_with_one_and_is_said_without_a_traceback_of_ours(signals, capsys, where):
    error = StepError("split", "ValueError", "boom", batch=7, record="'x'")
    ssc = ScriptedContext(fail={where: error}, ends=where == "run")
    if where == "drain":
        signals.drain.set()
    outcome = await outcome_of(ssc, signals)
    assert outcome.code is ExitCode.FAILED
    text = capsys.readouterr().err
    assert "StepError: ValueError: boom (in step 'split', batch 7)" in text
    assert "Traceback" not in text
    assert ssc.calls[-1] == "stop"


def test_other_errors_are_said_with_their_traceback_masked_and_harmless(capsys):
    """J4, J9"""
    try:
        raise RuntimeError("kafka://me:CANARY@host \x1b[2J")
    except RuntimeError as exc:
        say_failure(exc)
    say_failure(SourceError("password=CANARY"))
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "RuntimeError: kafka://me:***@host \\x1b[2J" in text
    assert "CANARY" not in text
    assert "\x1b" not in text


async def test_a_summary_is_shown_at_the_end_also_of_a_failure(signals, capsys):
    out = io.StringIO()
    view = TerminalView(StatisticsSnapshot, title="job", console=Console(file=out, width=100))
    ssc = ScriptedContext(fail={"run": SourceError("gone")}, ends=True)
    assert (await outcome_of(ssc, signals, view=view)).code is ExitCode.FAILED
    assert "summary of job" in out.getvalue()
    assert "failed: SourceError" in out.getvalue()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_signals_count_up_and_handlers_are_taken_away_again():
    """I2"""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    said = []
    signals = StopSignals(said.append)
    async with asyncio.timeout(30):
        with signals.installed():
            os.kill(os.getpid(), signal.SIGTERM)
            await signals.drain.wait()
            assert not signals.force.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            await signals.force.wait()
    assert len(said) == 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


_HANGS = """
import asyncio, threading, sys
from aiostream_engine.cli import loop
from aiostream_engine.cli.exit_code import ExitCode
loop.CLEANUP_TIMEOUT_S = 0.2
async def main():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    return ExitCode.FORCED
sys.exit(loop.run_loop(main(), uvloop=%s))
"""


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_thread_that_never_returns_does_not_hold_up_the_exit(uvloop):
    """I7"""
    result = subprocess.run(
        [sys.executable, "-c", _HANGS % uvloop], timeout=45, capture_output=True, text=True
    )
    assert result.returncode == ExitCode.FORCED, result.stderr
