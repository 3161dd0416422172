"""Runs programs under real PySpark for the tests: requests and answers are pickles on two pipes.

Started by :mod:`tests.compat.pyspark.real_spark` in the environment that has PySpark; the descriptors
of the pipes are its arguments. It ends when either pipe does.
"""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
import sys
import threading
import traceback
import warnings
from typing import Any, BinaryIO


class Environment:
    """What a program gets: the context and the modules of the engine that it runs on."""

    package = "pyspark"

    def __init__(self, sc: Any) -> None:
        self.sc = sc

    def module(self, name: str) -> Any:
        """``pyspark.<name>`` or the layer's module of that name."""
        return importlib.import_module(f"{self.package}.{name}" if name else self.package)


def answer(environment: Environment, module: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """("ok", result), or ("error", names of its classes, text)."""
    try:
        result = getattr(importlib.import_module(module), name)(environment, *args)
        pickle.dumps(result)
        return ("ok", result)
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return ("error", kinds, f"{error}\n{traceback.format_exc()}"[-20_000:])


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more requests."""
    from pyspark import SparkConf, SparkContext  # type: ignore[import-not-found]

    warnings.simplefilter("ignore")
    conf = SparkConf().set("spark.ui.enabled", "false").set("spark.ui.showConsoleProgress", "false")
    conf.set("spark.sql.warehouse.dir", os.getcwd()).set("spark.local.dir", os.getcwd())
    context = SparkContext("local[2]", "comparison", conf=conf)
    context.setLogLevel("OFF")
    # Start what the first job starts, so that no test waits for it.
    context.parallelize(range(4), 2).map(lambda x: (x, x)).reduceByKey(max).collect()
    environment = Environment(context)
    pickle.dump(("ok", context.version), answers)
    answers.flush()
    while True:
        try:
            batch = pickle.load(requests)
        except EOFError:
            return
        pickle.dump([answer(environment, *request) for request in batch], answers)
        answers.flush()


def _end_with(descriptor: int) -> None:
    """Leave when the tests do, also from the middle of a program."""
    os.read(descriptor, 1)
    shutil.rmtree(os.getcwd(), ignore_errors=True)  # the tests may have been killed
    os._exit(1)


if __name__ == "__main__":
    requests_fd, answers_fd, life_fd = map(int, sys.argv[1:4])
    for fd in (requests_fd, answers_fd, life_fd):
        os.set_inheritable(fd, False)
    threading.Thread(target=_end_with, args=(life_fd,), daemon=True).start()
    with os.fdopen(requests_fd, "rb") as incoming, os.fdopen(answers_fd, "wb") as outgoing:
        serve(incoming, outgoing)
