"""The exceptions that PySpark programs know, by the names of ``pyspark.errors``."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping

from ...errors import AiostreamError, StepError, UnpicklableError, UserCodeError

__all__ = [
    "IllegalArgumentException",
    "PickleException",
    "Py4JJavaError",
    "PySparkAssertionError",
    "PySparkAttributeError",
    "PySparkException",
    "PySparkImportError",
    "PySparkIndexError",
    "PySparkKeyError",
    "PySparkNotImplementedError",
    "PySparkPicklingError",
    "PySparkRuntimeError",
    "PySparkTypeError",
    "PySparkValueError",
    "PythonException",
    "SparkRuntimeException",
    "UnsupportedOperationException",
]

_TEXTS = {
    "APPLICATION_NAME_NOT_SET": "An application name must be set in your configuration.",
    "CONTEXT_ONLY_VALID_ON_DRIVER": (
        "A function, broadcast value or accumulator refers to the SparkContext. "
        "SparkContext can only be used on the driver, not in code that runs on workers (SPARK-5063)."
    ),
    "INVALID_BROADCAST_OPERATION": "Broadcast can only be {operation} in the driver.",
    "KEY_VALUE_PAIR_REQUIRED": "Key-value pair or a list of pairs is required.",
    "MASTER_URL_NOT_SET": "A master URL must be set in your configuration.",
    "PIPE_FUNCTION_EXITED": "The pipe function `{func_name}` exited with error code {error_code}.",
    "PYTHON_HASH_SEED_NOT_SET": (
        "Set PYTHONHASHSEED: without it hashes of strings differ from those of the workers."
    ),
    "RDD_TRANSFORM_ONLY_VALID_ON_DRIVER": (
        "A function or broadcast value refers to an RDD. RDD transformations and actions can only be "
        "invoked by the driver, not inside of other transformations (SPARK-5063)."
    ),
    "VALUE_NOT_ACCESSIBLE": "Value `{value}` cannot be accessed inside tasks.",
}


class PySparkException(Exception):
    """Base of the layer's exceptions; as PySpark. Text without an error class is taken as it is."""

    def __init__(
        self,
        message: str | None = None,
        errorClass: str | None = None,
        messageParameters: Mapping[str, str] | None = None,
    ) -> None:
        self._error_class = errorClass
        self._parameters = dict(messageParameters or {})
        if message is None:
            text = _TEXTS.get(errorClass or "", errorClass or "").format(**self._parameters)
            message = f"[{errorClass}] {text}" if errorClass else text
        self._message = message
        super().__init__(message)

    def getCondition(self) -> str | None:
        """The error class, None for free text; as PySpark."""
        return self._error_class

    getErrorClass = getCondition

    def getMessageParameters(self) -> dict[str, str]:
        """The values in the message; as PySpark."""
        return dict(self._parameters)

    def getSqlState(self) -> str | None:
        """Always None: there is no SQL here."""
        return None

    def getMessage(self) -> str:
        """The message; as PySpark."""
        return self._message

    def __str__(self) -> str:
        return self._message


class Py4JJavaError(Exception):
    """What ``except Py4JJavaError`` of a ported program can name: the base of failed jobs.

    It is not the class of the ``py4j`` package, which the layer does not need; import it from here.
    """

    @property
    def java_exception(self) -> JavaException:
        """What programs ask for the message; there is no Java exception behind it."""
        return JavaException(self)


class JavaException:
    """The methods of a Java exception that programs call on ``Py4JJavaError.java_exception``."""

    def __init__(self, error: Py4JJavaError) -> None:
        self._error = error

    def getMessage(self) -> str:
        """The text of the error."""
        return str(self._error)

    getLocalizedMessage = getMessage

    def getCause(self) -> None:
        """Always None: what it was caused by is in the text."""

    def toString(self) -> str:
        """The class and the text of the error."""
        return f"{type(self._error).__name__}: {self._error}"

    __str__ = toString


class PySparkRuntimeError(PySparkException, RuntimeError):
    """As PySpark."""


class PySparkValueError(PySparkException, ValueError):
    """As PySpark."""


class PySparkTypeError(PySparkException, TypeError):
    """As PySpark."""


class PySparkIndexError(PySparkException, IndexError):
    """As PySpark."""


class PySparkKeyError(PySparkException, KeyError):
    """As PySpark."""

    def __str__(self) -> str:
        return self._message


class PySparkAttributeError(PySparkException, AttributeError):
    """As PySpark."""


class PySparkAssertionError(PySparkException, AssertionError):
    """As PySpark."""


class PySparkImportError(PySparkException, ImportError):
    """As PySpark."""


class PySparkNotImplementedError(PySparkException, NotImplementedError):
    """As PySpark; raised for what the layer leaves out, with the reason."""


class PySparkPicklingError(PySparkException, pickle.PicklingError):
    """A function or value cannot be sent to the workers; as PySpark."""


class PickleException(PySparkException):
    """As PySpark."""


class IllegalArgumentException(PySparkException, Py4JJavaError):
    """An argument that the JVM would refuse; as PySpark."""


class UnsupportedOperationException(PySparkException, Py4JJavaError):
    """As PySpark."""


class SparkRuntimeException(PySparkException, Py4JJavaError):
    """The engine could not run a job: a lost worker, a full disk, a stopped context."""


class PythonException(PySparkException, Py4JJavaError):
    """A function of the user raised in a worker.

    The text holds the worker's traceback. PySpark raises py4j's ``Py4JJavaError`` with the same
    text inside; here ``step_error`` is the engine's error with step, partition and record.
    """

    step_error: StepError | None = None


@contextlib.contextmanager
def as_spark_errors() -> Iterator[None]:
    """Give the engine's errors the names that a PySpark program expects."""
    try:
        yield
    except PySparkException:
        raise
    except AiostreamError as error:
        raise spark_error(error) from error


def spark_error(error: AiostreamError) -> PySparkException:
    """The engine's ``error`` under its PySpark name."""
    if isinstance(error, StepError):
        found = PythonException(
            "[PYTHON_EXCEPTION] An exception was thrown from the Python worker: "
            f"{error.worker_traceback.rstrip() or error}\n SQLSTATE: 38000\n"
            f"  step: {error.step}, partition: {error.partition}, record: {error.record}",
            "PYTHON_EXCEPTION",
        )
        found.step_error = error
        return found
    if isinstance(error, UnpicklableError):
        return PySparkPicklingError(str(error))
    if isinstance(error, UserCodeError):
        return PythonException(f"[PYTHON_EXCEPTION] {type(error).__name__}: {error}", "PYTHON_EXCEPTION")
    return SparkRuntimeException(f"{type(error).__name__}: {error}")
