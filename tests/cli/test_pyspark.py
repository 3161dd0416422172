"""``pyspark script.py``: the process behaves as the script does under Python."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

DEADLINE_S = 60


def start(directory, script, *arguments, options=()):
    path = directory / "script.py"
    path.write_text(textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, "-m", "aiostream_engine", "pyspark", *options, str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
    )


def run(directory, script, *arguments, options=()):
    process = start(directory, script, *arguments, options=options)
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def test_a_script_has_its_name_arguments_and_directory(tmp_path):
    (tmp_path / "beside.py").write_text("word = 'found'\n")
    status, out, err = run(
        tmp_path,
        """
        import os, sys
        import beside
        print(__name__, os.path.basename(__file__), sys.argv[1:], beside.word)
        print(sys.modules["__main__"].__file__)
        """,
        "--conf",
        "-x",
        "a b",
    )
    assert (status, err) == (0, "")
    assert out == f"__main__ script.py ['--conf', '-x', 'a b'] found\n{tmp_path}/script.py\n"


STREAM = """
    import sys
    from pyspark import SparkConf, SparkContext
    from pyspark.streaming import StreamingContext
    import pyspark.streaming
    import helper

    def main():
        sc = SparkContext(conf=SparkConf())
        ssc = StreamingContext(sc, 0.1)
        numbers = ssc.queueStream([sc.parallelize(range(4), 2)])

        def is_known(number):
            from pyspark import StorageLevel  # in the worker
            return StorageLevel.MEMORY_ONLY.useMemory and helper.even(number)

        numbers.filter(is_known).pprint()
        ssc.start()
        ssc.awaitTerminationOrTimeout(1.5)
        print(sc.master, sc.appName, sc.getConf().get("spark.own"))

    if __name__ == "__main__":
        main()
"""


def test_a_stream_runs_with_pyspark_in_its_workers_and_ends_with_the_script(tmp_path):
    (tmp_path / "helper.py").write_text(
        "from pyspark import SparkContext\n\n\ndef even(x):\n    return x % 2 == 0\n"
    )
    status, out, err = run(
        tmp_path, STREAM, options=["--master", "local[2]", "--name", "n", "--conf", "spark.own=1"]
    )
    assert (status, err) == (0, "")
    assert re.search(r"-{43}\nTime: 20[^\n]*\n-{43}\n0\n2\n\n", out)
    assert out.endswith("local[2] n 1\n")


@pytest.mark.parametrize(
    ("code", "status", "err"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit('wrong use')", 1, "wrong use\n"),
        ("raise SystemExit(256 + 7)", 7, ""),
    ],
)
def test_the_exit_status_is_the_scripts(tmp_path, code, status, err):
    assert run(tmp_path, code) == (status, "", err)


def test_an_error_is_shown_from_the_frames_of_the_script(tmp_path):
    status, out, err = run(tmp_path, "def fail():\n    raise LookupError('on purpose')\n\nfail()\n")
    assert (status, out) == (1, "")
    shown = "".join(line for line in err.splitlines(keepends=True) if line.strip("~^ \n"))  # marks of 3.13
    assert shown == (
        "Traceback (most recent call last):\n"
        f'  File "{tmp_path}/script.py", line 4, in <module>\n    fail()\n'
        f"  File \"{tmp_path}/script.py\", line 2, in fail\n    raise LookupError('on purpose')\n"
        "LookupError: on purpose\n"
    )


def test_a_syntax_error_is_shown_as_python_shows_it(tmp_path):
    status, _, err = run(tmp_path, "def\n")
    assert status == 1
    assert err.startswith(f'  File "{tmp_path}/script.py", line 1\n')
    assert "SyntaxError: invalid syntax" in err


WAITING = """
    from pyspark import SparkContext
    from pyspark.streaming import StreamingContext

    sc = SparkContext(appName="waiting")
    ssc = StreamingContext(sc, 0.1)
    ssc.queueStream([[1]]).foreachRDD({callback})
    ssc.start()
    print("started", flush=True)
    ssc.awaitTermination()
"""


def test_ctrl_c_ends_it_by_the_signal_with_a_traceback(tmp_path):
    process = start(tmp_path, WAITING.format(callback="lambda rdd: rdd.count()"))
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGINT
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("KeyboardInterrupt\n")


def test_the_error_of_a_callback_ends_a_script_that_waits(tmp_path):
    status, _, err = run(tmp_path, WAITING.format(callback="lambda rdd: 1 // 0"))
    assert status == 1
    assert "\nZeroDivisionError: integer division or modulo by zero\n" in err
    assert "ssc.awaitTermination()" in err
    assert "in <lambda>" in err


def test_a_script_may_begin_with_a_session(tmp_path):
    script = """
        from pyspark.sql import SparkSession
        spark = SparkSession.builder.master("local[1]").appName("a session").getOrCreate()
        print(spark.sparkContext.appName, spark.sparkContext.parallelize([1, 2]).sum())
        spark.sql("select 1")
        """
    status, out, err = run(tmp_path, script)
    assert (status, out) == (1, "a session 3\n")
    assert "SparkSession.sql is not there" in err


def test_sql_says_what_to_use_instead(tmp_path):
    status, _, err = run(tmp_path, "from pyspark.sql import Row, SparkSession\n")
    assert status == 1
    assert "a SQL lane is planned" in err
    assert f'File "{tmp_path}/script.py", line 1' in err


@pytest.mark.parametrize(
    ("options", "text"), [(["nothing.py"], "there is no file"), (["--conf", "x", "s.py"], "no KEY=VALUE")]
)
def test_wrong_use_is_told(tmp_path, options, text):
    done = subprocess.run(
        [sys.executable, "-m", "aiostream_engine", "pyspark", *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 2
    assert text in done.stderr


def test_other_commands_are_not_imported_for_a_script(tmp_path):
    script = "import sys; print([name for name in sys.modules if name.startswith('aiostream_engine.cli.k')])"
    assert run(tmp_path, script)[1] == "[]\n"
