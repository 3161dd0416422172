from __future__ import annotations

import subprocess
import sys

import pytest

import aiostream_engine

COMMANDS = ["run", "demo", "feed", "explain", "doctor"]


def test_help_names_every_command_and_the_exit_codes(invoke):
    result = invoke("--help")
    assert result.exit_code == 0
    for word in [*COMMANDS, "Exit codes", "--install-completion"]:
        assert word in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(invoke, name):
    result = invoke(name, "-h")
    assert result.exit_code == 0
    assert f"python -m aiostream_engine {name}" in " ".join(result.output.split())


def test_running_a_target_is_said_to_execute_its_code(invoke):
    """J16"""
    for name in ("run", "explain"):
        assert "executes its code" in " ".join(invoke(name, "--help").output.split())


def test_the_version_is_printed(invoke):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.output == f"aiostream-engine {aiostream_engine.__version__}\n"


def test_no_command_shows_the_help_as_wrong_usage(invoke):
    assert invoke().exit_code == 2
    assert invoke("fly").exit_code == 2


def test_completion_for_the_shell_is_offered(command):
    one = command("--show-completion", "bash")
    assert one.exit_code() == 0
    assert "complete" in one.out


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_says_how_to_install_it(missing):
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom aiostream_engine.cli.main import main\nmain()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=45)
    assert result.returncode == 2
    assert "pip install 'aiostream-engine[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_functions_of_the_demo_are_light_to_import_in_a_worker():
    code = (
        "import sys, aiostream_engine.cli.word_count\n"
        "heavy = {'typer', 'rich', 'asyncio', 'aiostream_engine.runtime'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=45)
    assert result.returncode == 0, result.stderr
