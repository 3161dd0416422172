"""SparkContext: its life, its configuration, and what it shares with tasks."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from aiostream_engine.compat.pyspark import (
    AccumulatorParam,
    InheritableThread,
    SparkConf,
    SparkContext,
    SparkFiles,
    TaskContext,
)
from aiostream_engine.compat.pyspark.errors import (
    Py4JJavaError,
    PySparkException,
    PySparkNotImplementedError,
    PySparkPicklingError,
    PySparkRuntimeError,
    PythonException,
    SparkRuntimeException,
)
from aiostream_engine.compat.pyspark.master import cores_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def shared() -> Any:
    with SparkContext("local[2]", "tests") as sc:
        yield sc


@pytest.fixture
def sc(shared: SparkContext) -> SparkContext:
    return shared


# -- without the shared context ------------------------------------------------------------------


class TestLife:
    def test_start_and_stop_leave_nothing_and_can_be_repeated(self) -> None:
        for number in range(2):
            sc = SparkContext("local[1]", f"run {number}")
            assert sc.parallelize([1, 2, 3]).sum() == 6
            directory = SparkFiles.getRootDirectory()
            assert os.path.isdir(directory)
            assert directory in sys.path
            sc.stop()
            sc.stop()
            assert not os.path.exists(directory)
            assert directory not in sys.path

    def test_there_is_one_at_a_time_and_the_error_tells_where_the_other_was_made(self) -> None:
        with SparkContext("local", "first"):
            with pytest.raises(ValueError, match="Cannot run multiple SparkContexts at once") as caught:
                SparkContext("local", "second")
            assert "app=first, master=local" in str(caught.value)
            assert __file__ in str(caught.value)
        SparkContext("local", "third").stop()

    def test_get_or_create_gives_the_active_one(self) -> None:
        conf = SparkConf().setMaster("local").setAppName("mine")
        made = SparkContext.getOrCreate(conf)
        try:
            assert SparkContext.getOrCreate() is made
            assert (made.master, made.appName) == ("local", "mine")
        finally:
            made.stop()

    def test_a_stopped_one_refuses_work(self) -> None:
        sc = SparkContext("local", "short")
        rdd = sc.parallelize([1])
        sc.stop()
        with pytest.raises(SparkRuntimeException, match="stopped SparkContext"):
            rdd.collect()
        with pytest.raises(SparkRuntimeException, match="stopped SparkContext"):
            sc.parallelize([1])

    @pytest.mark.parametrize(
        ("conf", "told"),
        [
            (SparkConf().setAppName("x"), "MASTER_URL_NOT_SET"),
            (SparkConf().setMaster("local"), "APPLICATION_NAME_NOT_SET"),
        ],
    )
    def test_master_and_name_must_be_set(self, conf: SparkConf, told: str) -> None:
        with pytest.raises(PySparkRuntimeError) as caught:
            SparkContext(conf=conf)
        assert caught.value.getCondition() == told
        assert SparkContext._active_spark_context is None

    def test_arguments_go_before_the_configuration(self) -> None:
        conf = SparkConf().setMaster("local[7]").setAppName("x").set("spark.default.parallelism", "5")
        with SparkContext("local[2]", conf=conf) as sc:
            assert (sc.master, sc.appName, sc.defaultParallelism, sc.defaultMinPartitions) == (
                "local[2]",
                "x",
                5,
                2,
            )
            pairs = sc.parallelize([(1, 2), (3, 4)], 3)
            assert pairs.reduceByKey(max).getNumPartitions() == 5
            assert sc.getConf().get("spark.master") == "local[2]"

    def test_environment_variables_reach_the_workers(self) -> None:
        conf = SparkConf().setExecutorEnv("ONE", "1").setExecutorEnv(pairs=[("TWO", "2")])
        with SparkContext("local", "x", environment={"THREE": "3"}, conf=conf) as sc:
            names = sc.parallelize(["ONE", "TWO", "THREE", "PYTHONHASHSEED"], 1)
            assert names.map(lambda name: os.environ.get(name)).collect() == ["1", "2", "3", "0"]

    def test_what_tasks_print_goes_to_standard_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = io.StringIO()
        monkeypatch.setattr(sys, "stderr", told)
        with SparkContext("local", "x") as sc:
            sc.parallelize(["one", "two"], 1).foreach(print)
        assert told.getvalue().splitlines() == ["one", "two"]


@pytest.mark.parametrize(
    ("master", "cores"), [("local", 1), ("local[3]", 3), ("local[ 2 , 4 ]", 2), ("local[1,3]", 1)]
)
def test_masters_that_are_understood(master: str, cores: int) -> None:
    assert cores_of(master) == cores
    assert cores_of("local[*]") >= 1


@pytest.mark.parametrize("master", ["yarn", "spark://host:7077", "local[x]", "local[0]", ""])
def test_other_masters_are_refused(master: str) -> None:
    with pytest.raises(SparkRuntimeException, match=r"Master URL|0 threads"):
        cores_of(master)


SCRIPT = """
from operator import add
from aiostream_engine.compat.pyspark import SparkContext

class Order:
    def __init__(self, price):
        self.price = price

def price(order):
    global seen
    seen += 1
    return order.price * factor.value

sc = SparkContext("local[2]", "script")
seen = sc.accumulator(0)
factor = sc.broadcast(10)
orders = sc.parallelize([Order(1), Order(2), Order(3)], 2)
print(orders.map(price).sum(), seen.value, isinstance(orders.first(), Order))
print(orders.map(lambda o: (o.price % 2, 1)).reduceByKey(add).collect())
orders.foreach(lambda o: print("task", o.price))
{end}
"""


@pytest.mark.parametrize("end", ["sc.stop()", "raise SystemExit(0)", ""])
def test_a_script_with_functions_and_classes_of_its_own_runs_and_ends_whether_it_stops_or_not(
    tmp_path: Path, end: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{end}", end))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert (done.stdout, done.returncode) == ("60 3 True\n[(0, 1), (1, 2)]\n", 0), done.stderr
    assert sorted(done.stderr.splitlines()) == ["task 1", "task 2", "task 3"]
    assert not list(tmp_path.glob("aiostream-*"))


# -- what it shares with tasks -------------------------------------------------------------------


class ListParam(AccumulatorParam[list[Any]]):
    def zero(self, value: list[Any]) -> list[Any]:
        return []

    def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:
        value1.extend(value2)
        return value1


def test_accumulators_sum_up_what_all_tasks_add(sc: SparkContext) -> None:
    number, real, items = sc.accumulator(10), sc.accumulator(0.5), sc.accumulator(["start"], ListParam())

    def visit(x: int) -> None:
        nonlocal number
        number += x
        real.add(x / 2)
        items.add([x])

    sc.parallelize(range(6), 3).foreach(visit)
    assert (number.value, real.value, items.value[0]) == (25, 8.0, "start")
    assert sorted(items.value[1:]) == [0, 1, 2, 3, 4, 5]
    number.value = 0
    number.add(2)
    assert (str(number), number.value) == ("2", 2)
    assert repr(number) == f"Accumulator<id={number.aid}, value=2>"


def test_a_task_adds_to_zero_and_cannot_read(sc: SparkContext) -> None:
    number = sc.accumulator(100)

    def seen(x: int) -> str:
        number.add(x)
        return str(number)

    assert sc.parallelize([1, 2, 3], 1).map(seen).collect() == ["1", "3", "6"]
    assert number.value == 106
    with pytest.raises(PythonException, match="VALUE_NOT_ACCESSIBLE"):
        sc.parallelize([1]).map(lambda x: number.value).collect()


def test_only_numbers_have_a_parameter_of_their_own(sc: SparkContext) -> None:
    assert sc.accumulator(1j).value == 1j
    with pytest.raises(TypeError, match="No default accumulator param"):
        sc.accumulator("text")


def test_a_failed_task_adds_nothing(sc: SparkContext) -> None:
    number = sc.accumulator(0)

    def fail(x: int) -> None:
        number.add(1)
        raise ValueError(x)

    with pytest.raises(PythonException):
        sc.parallelize([1], 1).foreach(fail)
    assert number.value == 0


def test_a_broadcast_is_loaded_once_a_worker_until_it_is_destroyed(sc: SparkContext) -> None:
    table = sc.broadcast({"a": 1})
    rdd = sc.parallelize(["a"] * 4, 4)
    assert table.value == {"a": 1}
    assert rdd.map(lambda k: table.value[k]).sum() == 4
    assert len(set(rdd.map(lambda k: (os.getpid(), id(table.value))).collect())) <= 2
    table.unpersist()
    assert rdd.map(lambda k: table.value[k]).sum() == 4
    table.destroy()
    with pytest.raises(SparkRuntimeException, match="destroyed"):
        _ = table.value
    with pytest.raises(PySparkPicklingError, match="destroyed"):
        rdd.map(lambda k: table.value[k]).collect()


def test_a_task_can_neither_unpersist_nor_destroy_a_broadcast(sc: SparkContext) -> None:
    value = sc.broadcast(1)
    with pytest.raises(PythonException, match="INVALID_BROADCAST_OPERATION"):
        sc.parallelize([1]).foreach(lambda x: value.destroy())


def test_broadcast_files(sc: SparkContext, tmp_path: Path) -> None:
    value = sc.broadcast([1])
    path = str(tmp_path / "value")
    value.dump([1, 2], open(path, "wb"))  # noqa: SIM115 - dump closes it, as PySpark's does
    assert value.load_from_path(path) == [1, 2]


def test_added_files_and_modules_are_there_in_tasks(sc: SparkContext, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("hello")
    (tmp_path / "spark_added_module.py").write_text("NAME = 'module'")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("inside")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("spark_added_package/__init__.py", "NAME = 'package'")
    sc.addFile(str(tmp_path / "data.txt"))
    sc.addFile(str(tmp_path / "folder"), recursive=True)
    sc.addPyFile(str(tmp_path / "spark_added_module.py"))
    sc.addPyFile(str(tmp_path / "packed.zip"))

    def look(_: int) -> tuple[str, ...]:
        import spark_added_module  # type: ignore[import-not-found]
        import spark_added_package  # type: ignore[import-not-found]

        texts = [Path(SparkFiles.get(name)).read_text() for name in ("data.txt", "folder/inner")]
        return (*texts, spark_added_module.NAME, spark_added_package.NAME)

    assert set(sc.parallelize([1, 2], 2).map(look).collect()) == {("hello", "inside", "module", "package")}
    assert Path(SparkFiles.get("data.txt")).read_text() == "hello"
    assert f"file:{tmp_path / 'data.txt'}" in sc.listFiles
    with pytest.raises(SparkRuntimeException, match="directory"):
        sc.addFile(str(tmp_path / "folder"))
    with pytest.raises(SparkRuntimeException, match="does not exist"):
        sc.addFile(str(tmp_path / "nothing"))


def test_an_archive_is_unpacked(sc: SparkContext, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("inside.txt", "text")
    sc.addArchive(f"{tmp_path / 'more.zip'}#named")
    read = lambda _: Path(SparkFiles.get("named/inside.txt")).read_text()  # noqa: E731
    assert sc.parallelize([1]).map(read).collect() == ["text"]
    assert sc.listArchives == [f"file:{tmp_path / 'more.zip'}"]


def test_a_task_knows_its_partition(sc: SparkContext) -> None:
    def look(_: int) -> tuple[int, int]:
        context = TaskContext.get()
        assert context is not None
        return context.partitionId(), context.attemptNumber()

    assert sc.parallelize([1, 2, 3], 3).map(look).collect() == [(0, 0), (1, 0), (2, 0)]
    assert TaskContext.get() is None


# -- errors --------------------------------------------------------------------------------------


def test_an_error_of_a_function_has_message_and_traceback(sc: SparkContext) -> None:
    def broken(x: int) -> int:
        raise LookupError(f"no {x}")

    with pytest.raises(PythonException) as caught:
        sc.parallelize([7], 1).map(broken).collect()
    text = str(caught.value)
    assert "LookupError: no 7" in text
    assert "Traceback (most recent call last)" in text
    assert "in broken" in text
    assert isinstance(caught.value, PySparkException | Py4JJavaError)
    assert caught.value.step_error is not None
    assert caught.value.step_error.record == "7"
    assert pickle.loads(pickle.dumps(text)) == text


def test_the_driver_raises_what_its_last_step_raises(sc: SparkContext) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        sc.parallelize([1, "a"], 2).reduce(lambda a, b: a + b)


@pytest.mark.parametrize("what", ["the context", "an rdd"])
def test_the_context_and_rdds_stay_in_the_driver(sc: SparkContext, what: str) -> None:
    culprit = sc if what == "the context" else sc.parallelize([1])
    with pytest.raises(PySparkPicklingError, match="SPARK-5063"):
        sc.parallelize([1]).map(lambda x: culprit).collect()


def test_no_context_can_be_made_in_a_task(sc: SparkContext) -> None:
    with pytest.raises(PythonException, match="SparkContext can only be used on the driver"):
        sc.parallelize([1]).map(lambda x: SparkContext("local", "inner")).collect()


def test_what_is_left_out_says_why(sc: SparkContext) -> None:
    with pytest.raises(PySparkNotImplementedError, match=r"RDD\.toDF is not in this layer"):
        sc.parallelize([1]).toDF()
    with pytest.raises(PySparkNotImplementedError, match="Hadoop"):
        sc.sequenceFile("x")
    assert not hasattr(sc, "hadoopFile")
    with pytest.raises(PySparkNotImplementedError, match="no JVM"):
        _ = sc._jvm
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sc.nonsense


# -- properties ----------------------------------------------------------------------------------


def test_local_properties_are_of_one_thread_and_can_be_inherited(sc: SparkContext) -> None:
    sc.setLocalProperty("key", "value")
    seen: list[str | None] = []
    for kind in (threading.Thread, InheritableThread):
        thread = kind(target=lambda: seen.append(sc.getLocalProperty("key")))
        thread.start()
        thread.join()
    assert seen == [None, "value"]
    sc.setLocalProperty("key", None)
    assert sc.getLocalProperty("key") is None


def test_groups_and_tags_are_local_properties(sc: SparkContext) -> None:
    sc.setJobGroup("group", "text", True)
    sc.addJobTag("b")
    sc.addJobTag("a")
    sc.removeJobTag("b")
    assert sc.getLocalProperty("spark.jobGroup.id") == "group"
    assert sc.getJobTags() == {"a"}
    sc.clearJobTags()
    assert sc.getJobTags() == set()


def test_what_it_tells_of_itself(sc: SparkContext) -> None:
    assert sc.version == "4.3.0"
    assert sc.applicationId == f"local-{sc.startTime}"
    assert sc.uiWebUrl is None
    assert sc.resources == {}
    assert repr(sc) == "<SparkContext master=local[2] appName=tests>"
    assert sc.sparkUser()
    SparkContext.setSystemProperty("a.b", "c")
    assert SparkContext.getSystemProperty("a.b") == "c"


def test_configuration_is_a_map_of_texts() -> None:
    conf = SparkConf(loadDefaults=False).set("a", 1).setIfMissing("a", "2").setIfMissing("b", "3")  # type: ignore[arg-type]
    assert sorted(conf.getAll()) == [("a", "1"), ("b", "3")]
    assert (conf.get("a"), conf.get("c"), conf.get("c", "d"), conf.contains("b")) == ("1", None, "d", True)
    assert conf.toDebugString() == "a=1\nb=3"
    with pytest.raises(PySparkRuntimeError, match="KEY_VALUE_PAIR_REQUIRED"):
        conf.setExecutorEnv()


def test_the_level_of_logs_is_the_engines_alone(sc: SparkContext) -> None:
    import logging

    logger, root = logging.getLogger("aiostream_engine"), logging.getLogger().level
    before = logger.level
    try:
        sc.setLogLevel("ERROR")
        assert (logger.level, logging.getLogger().level) == (logging.ERROR, root)
        with pytest.raises(Py4JJavaError, match="did not match"):
            sc.setLogLevel("LOUD")
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    ("loaded", "absent"),
    [
        ("import aiostream_engine; aiostream_engine.StreamingContext", "aiostream_engine.compat"),
        ("import aiostream_engine.compat.pyspark", "aiostream_engine.compat.pyspark.context"),
        ("import aiostream_engine.compat.pyspark.kernels", "asyncio"),
        ("import aiostream_engine.compat.pyspark.accumulators", "asyncio"),
        ("import aiostream_engine.compat.pyspark.broadcast", "asyncio"),
    ],
)
def test_what_is_loaded_is_what_is_needed(loaded: str, absent: str) -> None:
    code = f"import sys; {loaded}; sys.exit({absent!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


def test_ctrl_c_ends_a_waiting_script_and_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from aiostream_engine.compat.pyspark import SparkContext\n"
        "sc = SparkContext('local[2]', 'script')\n"
        "def wait(x):\n"
        "    print('waiting')\n"
        "    time.sleep(300)\n"
        "sc.parallelize([1, 2], 2).foreach(wait)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert process.returncode in (1, -signal.SIGINT)
    assert not list(tmp_path.glob("aiostream-*"))
