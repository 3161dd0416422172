"""What a piece of code leaves behind: tasks, threads, child processes, descriptors."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from types import TracebackType
from typing import Any

__all__ = ["LeakCheck", "LeakError"]

_POLL_S = 0.005
# Threads of asyncio's default executor belong to the loop and end with it.
_LOOP_THREAD = re.compile(r"(asyncio|uvloop)_\d+$")


class LeakError(AssertionError):
    """Something was left behind; the text lists each thing."""


class LeakCheck:
    """Compares what there is at the end of a ``with`` or ``async with`` with what there was.

    Gives things that are about to end a while to do so. The ``async`` form also sees tasks, and
    lets the event loop run while it waits; the plain form blocks for up to ``grace_s``.
    Processes and descriptors are seen on Linux.

    Parameters
    ----------
    grace_s: real seconds that things may take to end.
    fds: also compare open file descriptors.

    Raises LeakError at the end, unless the body raised.
    """

    def __init__(self, *, grace_s: float = 2.0, fds: bool = True) -> None:
        self._grace_s = grace_s
        self._fds = fds
        self._tasks: set[asyncio.Task[Any]] | None = None
        self._before: dict[str, dict[Any, str]] = {}

    def __enter__(self) -> LeakCheck:
        self._before = self._present()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + self._grace_s
        while (found := self.leaks()) and kind is None:
            if time.monotonic() > deadline:
                raise LeakError(_report(found))
            time.sleep(_POLL_S)

    async def __aenter__(self) -> LeakCheck:
        self._tasks = _tasks()
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + self._grace_s
        while (found := self.leaks()) and kind is None:
            if time.monotonic() > deadline:
                raise LeakError(_report(found))
            await asyncio.sleep(_POLL_S)

    def leaks(self) -> list[str]:
        """What is there now and was not at the start, a line each."""
        found = []
        for kind, things in self._present().items():
            before = self._before[kind]
            for thing, text in things.items():
                # A process that has just been started changes its command line once.
                same = thing in before and (kind == "process" or before[thing] == text)
                found += [] if same else [f"{kind} {text}"]
        if self._tasks is not None:
            found += [f"task {_task_text(task)}" for task in _tasks() - self._tasks]
        return sorted(found)

    def _present(self) -> dict[str, dict[Any, str]]:
        return {
            "thread": {
                thread.ident: thread.name
                for thread in threading.enumerate()
                if not _LOOP_THREAD.match(thread.name)
            },
            "process": _children(),
            "descriptor": _descriptors() if self._fds else {},
        }


def _tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _task_text(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    coroutine = getattr(task.get_coro(), "__qualname__", "?")
    return f"{task.get_name()} ({coroutine}){where}"


def _children() -> dict[Any, str]:
    children: dict[Any, str] = {}
    for thread in _list("/proc/self/task"):
        for pid in _read(f"/proc/self/task/{thread}/children").split():
            command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
            zombie = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] == ["Z"]
            if zombie:
                command = "(a zombie: it ended and was not waited for)"
            children[int(pid), zombie] = f"{pid} {command[:200]}"
    return children


def _descriptors() -> dict[Any, str]:
    descriptors: dict[Any, str] = {}
    for fd in _list("/proc/self/fd"):
        try:
            descriptors[int(fd)] = f"{fd} -> {os.readlink(f'/proc/self/fd/{fd}')}"
        except FileNotFoundError:
            pass  # the one that lists the directory
    return descriptors


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:  # not Linux
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return ""


def _report(found: list[str]) -> str:
    return "left behind:\n  " + "\n  ".join(found)
