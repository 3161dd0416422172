from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from pathlib import Path

import pytest

from aiostream_engine.cli.word_count import add_to_total, most_first, one_each, words_of


def children_of(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(stat.parent.name))
    return found


def test_it_counts_a_live_stream_shows_it_and_ends_on_ctrl_c_with_a_summary(command):
    one = command("demo", "--rate", "2000", "--window", "2")
    one.wait_for(lambda c: len(re.findall(r"top words, last 2 s=\[\w+", c.err)) >= 2)
    children = children_of(one.process.pid)
    assert len(children) >= 3  # the feeder and two workers
    os.killpg(one.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    assert one.exit_code() == 0, one.err
    assert "summary of word count" in one.err
    assert "top words" in one.err
    assert re.search(r"ended\W+drained", one.err)
    assert "Traceback" not in one.err
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]


def test_on_a_terminal_the_table_is_redrawn_in_place(tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "aiostream_engine", "demo", "--rate", "1000"],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        shown = read_until(master, lambda text: text.count("batch time") > 4 and "last 10 s" in text)
        assert "\x1b[1A" in shown  # the cursor goes up to draw over
        os.killpg(process.pid, signal.SIGINT)
        shown += read_until(master, lambda text: "drained" in text)
        assert process.wait(45) == 0
        assert "Traceback" not in shown
    finally:
        process.kill()
        process.wait(45)
        os.close(master)


def read_until(fd, reached):
    text, deadline = "", time.monotonic() + 45
    while not reached(text):
        assert time.monotonic() < deadline, text
        if select.select([fd], [], [], 0.2)[0]:
            text += os.read(fd, 65536).decode(errors="replace")
    return text


def test_it_ends_by_itself_after_the_duration(command, tmp_path):
    (tmp_path / "book.txt").write_text("apple pear apple\n" * 50)
    one = command("demo", "--text", "book.txt", "--rate", "1000", "--duration", "4", "--master", "local[1]")
    assert one.exit_code() == 0, one.err
    assert "drained after 4 s" in one.err
    assert "apple" in one.err


def test_it_reads_from_the_users_own_socket_and_counts_every_word(command):
    lines = [f"alpha {'beta ' * (number % 3)}".strip() for number in range(1000)]
    expected = Counter(word for line in lines for word in line.split())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(45)
        one = command("demo", "--connect", f"127.0.0.1:{server.getsockname()[1]}", "--interval", "0.1")
        client, _ = server.accept()
        with client:
            client.sendall("".join(f"{line}\n" for line in lines).encode())
            shown = f"top words=[alpha:{expected['alpha']:,}, beta:{expected['beta']:,}]"
            one.wait_for(lambda c: shown in c.err)
            one.signal(signal.SIGTERM)
            assert one.exit_code() == 0, one.err


@pytest.mark.parametrize(
    "arguments", [["--connect", "9999"], ["--connect", "host:x"], ["--text", "nowhere"], ["--master", "yarn"]]
)
def test_wrong_usage_exits_with_two(invoke, arguments):
    assert invoke("demo", *arguments, "--duration", "0").exit_code == 2


def test_text_without_lines_is_said(command, tmp_path):
    (tmp_path / "dir").mkdir()
    one = command("demo", "--text", "dir")
    assert one.exit_code() == 1
    assert "is there text to replay?" in one.err


def test_the_functions_of_the_graph_count_words():
    assert words_of("Don't count 42 or x, WORD_two!") == ["don", "count", "or", "word", "two"]
    assert one_each("a") == ("a", 1)
    assert add_to_total([1, 2], None) == 3
    assert add_to_total([], 5) == 5
    assert sorted([("b", 2), ("c", 9), ("a", 2)], key=most_first) == [("c", 9), ("a", 2), ("b", 2)]
