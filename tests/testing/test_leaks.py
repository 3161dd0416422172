"""The leak check finds what is left behind, and waits for what is about to end."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from aiostream_engine.testing import LeakCheck, LeakError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


async def test_code_that_cleans_up_passes():
    async with LeakCheck():
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        read, write = os.pipe()
        os.close(read)
        os.close(write)


async def test_a_task_left_behind_is_named_with_its_place():
    started = asyncio.Event()

    async def forgotten() -> None:
        started.set()
        await asyncio.Event().wait()

    with pytest.raises(LeakError, match=r"task lonely \(.*forgotten\) at .*test_leaks\.py"):
        async with LeakCheck(grace_s=0.05):
            task = asyncio.create_task(forgotten(), name="lonely")
            await started.wait()
    task.cancel()


async def test_a_task_that_is_about_to_end_is_waited_for():
    async with LeakCheck():
        task = asyncio.create_task(asyncio.sleep(0.02))
    assert task.done()


def test_a_thread_left_behind_is_named():
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="lonely-thread")
    with pytest.raises(LeakError, match="thread lonely-thread"), LeakCheck(grace_s=0.05):
        thread.start()
    end.set()
    thread.join()


@LINUX
def test_a_child_process_left_behind_is_named_with_its_command():
    with pytest.raises(LeakError, match=r"process \d+ cat"), LeakCheck(grace_s=0.05, fds=False):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    child.communicate()


@LINUX
def test_a_zombie_is_a_leak():
    with pytest.raises(LeakError, match="zombie"), LeakCheck(grace_s=0.5):
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.wait()


@LINUX
def test_a_descriptor_left_open_is_named_with_what_it_is(tmp_path):
    with pytest.raises(LeakError, match=r"descriptor \d+ -> .*kept"), LeakCheck(grace_s=0.05):
        file = open(tmp_path / "kept", "w")  # noqa: SIM115 - the leak
    file.close()


def test_what_was_there_before_is_no_leak():
    read, write = os.pipe()
    with LeakCheck(grace_s=0.05):
        pass
    os.close(read)
    os.close(write)


def test_an_error_of_the_body_is_not_hidden_by_a_leak():
    with pytest.raises(KeyError), LeakCheck(grace_s=0.05):
        read, write = os.pipe()
        raise KeyError
    os.close(read)
    os.close(write)
