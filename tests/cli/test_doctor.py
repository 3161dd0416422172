from __future__ import annotations

import resource

import pytest

from aiostream_engine.cli import doctor as doctor_module
from aiostream_engine.cli.doctor import MIB, Check, Verdict, checks, judge_shared_memory


def test_a_fit_machine_passes_and_a_worker_is_started(command):
    one = command("doctor")
    code = one.exit_code()
    assert "worker start" in one.out
    assert "ready in" in one.out
    assert code == (1 if "problem" in one.out else 0)


def test_shared_memory_of_a_plain_container_is_warned_of_with_the_remedy():
    check = judge_shared_memory(64 * MIB, 64 * MIB)
    assert check.verdict is Verdict.WARNING
    assert "--shm-size" in check.remedy
    assert judge_shared_memory(1024 * MIB, 10 * MIB).verdict is Verdict.WARNING
    assert judge_shared_memory(1024 * MIB, 900 * MIB).verdict is Verdict.FINE


def test_low_limits_are_warned_of_with_the_command_that_raises_them(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    found = {check.name: check for check in checks() if check.name in ("open files", "processes")}
    assert {check.verdict for check in found.values()} == {Verdict.WARNING}
    assert "ulimit -n" in found["open files"].remedy
    assert "ulimit -u" in found["processes"].remedy


def test_every_warning_and_problem_has_a_remedy():
    for check in checks():
        assert check.remedy or check.verdict in (Verdict.FINE, Verdict.NOTE), check


def test_a_check_that_breaks_down_is_a_problem_and_the_others_go_on(monkeypatch):
    def broken():
        raise PermissionError("not allowed")

    monkeypatch.setattr(doctor_module, "_clock", broken)
    found = list(checks())
    (bad,) = [check for check in found if "not allowed" in check.found]
    assert bad.verdict is Verdict.PROBLEM
    assert len(found) == 10


@pytest.mark.parametrize(
    ("verdict", "arguments", "code"),
    [
        (Verdict.FINE, [], 0),
        (Verdict.WARNING, [], 0),
        (Verdict.WARNING, ["--strict"], 1),
        (Verdict.PROBLEM, [], 1),
    ],
)
def test_the_exit_code_follows_the_worst_verdict(invoke, monkeypatch, verdict, arguments, code):
    monkeypatch.setattr(doctor_module, "checks", lambda: iter([Check("disk", verdict, "full", "free some")]))
    result = invoke("doctor", *arguments)
    assert result.exit_code == code
    assert "free some" in result.output


def test_a_worker_that_cannot_start_is_a_problem(monkeypatch):
    from aiostream_engine.errors import WorkerStartError
    from aiostream_engine.executors.process.pool import ProcessExecutor

    async def refuse(self):
        raise WorkerStartError("no module named x")

    monkeypatch.setattr(ProcessExecutor, "start", refuse)
    (check,) = [check for check in checks() if check.name == "worker start"]
    assert check.verdict is Verdict.PROBLEM
    assert "no module named x" in check.found
