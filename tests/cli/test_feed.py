from __future__ import annotations

import json
import re
import signal
import socket
import subprocess

import pytest


def address_of(one):
    one.wait_for(lambda c: "\n" in c.out)
    host, port = re.match(r"listening on (\S+) port (\d+)\n", one.out).groups()
    return host, int(port)


def test_a_file_is_served_on_loopback_until_a_signal(command, tmp_path):
    """J1"""
    (tmp_path / "text").write_text("a\nb\n")
    one = command("feed", "text", "--port", "0", "--once", "--rate", "0")
    host, port = address_of(one)
    assert host == "127.0.0.1"
    with socket.create_connection((host, port), 30) as client:
        client.settimeout(30)
        assert client.makefile("rb").read() == b"a\nb\n"
    one.signal(signal.SIGTERM)
    assert one.exit_code() == 0
    assert "served 2 lines (4 bytes) to 1 clients" in one.err


def test_standard_input_is_served_once_to_its_clients(command):
    one = command("feed", "-", "--port", "0", "--rate", "0", stdin=subprocess.PIPE)
    address = address_of(one)
    with socket.create_connection(address, 30) as client:
        client.settimeout(30)
        lines = client.makefile("rb")
        one.process.stdin.write(b"first\nsecond\nwith")
        one.process.stdin.flush()
        assert [lines.readline(), lines.readline()] == [b"first\n", b"second\n"]
        one.process.stdin.write(b"out end")
        one.process.stdin.close()
        assert lines.read() == b"without end\n"
    assert one.exit_code() == 0


def test_a_feeder_ends_with_the_process_that_holds_its_input(command):
    one = command("feed", "--port", "0", "--until-stdin-closes", stdin=subprocess.PIPE)
    address_of(one)
    one.process.stdin.close()
    assert one.exit_code() == 0


def test_it_ends_by_itself_after_the_duration(command):
    one = command("feed", "--port", "0", "--duration", "0.1")
    assert one.exit_code() == 0


def test_a_port_in_use_is_said(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = command("feed", "--port", str(taken.getsockname()[1]))
        assert one.exit_code() == 1
    assert "cannot listen on 127.0.0.1" in one.err
    assert "Traceback" not in one.err


LETTERS = """
{"record": {"text": "12;x"}}
{"record": {"repr": "<object>"}}
{"record": {"json": {"a": 1}}}
"""


@pytest.mark.parametrize("place", ["file", "directory", "sink"])
def test_the_records_of_dead_letters_are_served_once(command, tmp_path, place):
    """F14"""
    directory = tmp_path / "rejected"
    directory.mkdir()
    (directory / "part-1.jsonl").write_text(LETTERS.lstrip())
    if place == "sink":
        (directory / "part-2.jsonl").write_text("of a batch that is not committed")
        (directory / "_batches").mkdir()
        manifest = {"batch_id": 1, "time_ms": 1, "files": [{"name": "part-1.jsonl"}]}
        (directory / "_batches" / "1.json").write_text(json.dumps(manifest))
    path = "rejected/part-1.jsonl" if place == "file" else "rejected"
    one = command("feed", "--dead-letters", path, "--port", "0", "--rate", "0")
    with socket.create_connection(address_of(one), 30) as client:
        client.settimeout(30)
        assert client.makefile("rb").read() == b'12;x\n{"a":1}\n'
    one.signal(signal.SIGTERM)
    assert one.exit_code() == 0
    assert "1 dead letters cannot be sent as a line: they were left out" in one.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--dead-letters", "letters", "other"], "served alone"),
        (["--dead-letters", "letters"], "letters, line 2: this is no entry"),
        (["--dead-letters", "missing"], "missing"),
        (["--dead-letters", "empty"], "nothing in empty"),
    ],
)
def test_dead_letters_that_cannot_be_served_are_wrong_usage(command, tmp_path, arguments, text):
    (tmp_path / "letters").write_text('{"record": {"text": "a"}}\n{"other": 1}\n')
    (tmp_path / "empty").mkdir()
    one = command("feed", *arguments)
    assert one.exit_code() == 2
    assert text in re.sub(r"[\s│]+", " ", one.err)


@pytest.mark.parametrize(
    "arguments",
    [["no-such-file"], ["-", "README.md"], ["--port", "70000"], ["--rate", "-1"], ["--drip-bytes", "0"]],
)
def test_wrong_usage_exits_with_two(invoke, arguments):
    assert invoke("feed", *arguments).exit_code == 2


def test_a_directory_without_text_is_wrong_usage(invoke, tmp_path):
    result = invoke("feed", str(tmp_path))
    assert result.exit_code == 2
    assert "no text files" in result.output
