"""The main loop of a worker process: receive a task, run it, reply.

Imports nothing of asyncio or of the engine's runtime. The driver starts this module in a fresh
interpreter; users need no ``__main__`` guard.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from ...blocks.storage import BlockWriter
from ..base import Task, TaskResult
from ..nested import WORKER_VARIABLE
from ..task import TaskEnvironment, describe
from .wire import Frame, FrameBuffer, Kind, Reply, WireError, encode_frame

__all__ = ["WorkerSetup", "attempt_prefix", "main", "watch_path"]

RSS_INTERVAL_S = 0.1
OOM_SCORE_RAISE = 500
_JOIN_BYTES_MAX = 64 * 1024


class WorkerSetup(NamedTuple):
    """First message to a worker: who it is and where its blocks go."""

    slot: int
    directory: str
    spill_directory: str
    prefix: str
    message_bytes_max: int
    argv: tuple[str, ...] = ()


def attempt_prefix(prefix: str, number: int) -> str:
    """How the names of all block files of one attempt begin, so that they can be found if it dies."""
    return f"{prefix}-{number:x}-"


def watch_path(directory: str, prefix: str, number: int) -> str:
    """The file in which a watched attempt says what it has in hand."""
    return os.path.join(directory, f"{attempt_prefix(prefix, number)}hand")


def main() -> NoReturn:
    """Serve the driver until it says stop or is gone; arguments are two inherited descriptors."""
    wire_fd, death_fd = int(sys.argv[2]), int(sys.argv[3])
    _die_with_driver(death_fd)
    for fd in (wire_fd, death_fd):
        os.set_inheritable(fd, False)  # the programs that a step starts must not hold them open
    os.environ[WORKER_VARIABLE] = str(os.getpid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the driver's to handle
    faulthandler.enable()
    _volunteer_for_oom()
    # Almost every program is a cloudpickle; loading it now keeps the first batch quick.
    importlib.import_module("aiostream_engine.blocks.by_value")
    if "AIOSTREAM_ENGINE_MODULE_ALIAS" in os.environ:  # the driver lets ``import pyspark`` give its layer
        importlib.import_module("aiostream_engine.compat.alias").install_from_environment()
    gc.freeze()
    connection = _Connection(socket.socket(fileno=wire_fd))
    with contextlib.suppress(OSError, WireError):  # the driver is gone: there is nobody to tell
        _serve(connection)
    _leave(0)


def _serve(connection: _Connection) -> None:
    worker: _Worker | None = None
    for frame in connection.frames():
        if worker is None:
            worker = _Worker(connection, pickle.loads(frame.payload))
            connection.send(Kind.READY, 0, b"")
        elif not worker.handle(frame):
            return


def _leave(status: int) -> NoReturn:
    """End without joining the threads or running the exit handlers that user code left behind."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # whatever user code put there
            continue
    os._exit(status)


def _die_with_driver(death_fd: int) -> None:
    """Let the kernel kill this process group when the driver's end of the death pipe closes.

    A thread or a signal handler would wait for the interpreter's lock, which C code may hold for
    ever; a parent-death signal follows the *thread* that started the worker. An O_ASYNC descriptor
    whose signal is SIGKILL needs neither.
    """
    fcntl: Any = importlib.import_module("fcntl")
    os.set_blocking(death_fd, False)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(death_fd, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(death_fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(death_fd, fcntl.F_SETFL, fcntl.fcntl(death_fd, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        closed = os.read(death_fd, 1) == b""
    except BlockingIOError:
        closed = False
    if closed:  # the driver died before the trap was set
        os._exit(1)


def _volunteer_for_oom() -> None:
    """Be killed before the driver when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            score = min(1000, int(file.read()) + OOM_SCORE_RAISE)
            file.write(b"%d" % score)
    except OSError:
        pass  # not Linux, or not permitted: only the order of victims changes


class _Connection:
    """The worker's end of the socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(True)

    def frames(self) -> Iterator[Frame]:
        """Frames until the driver closes its end."""
        # The driver checks its own limit before it sends: no second one is needed here.
        buffer = FrameBuffer(frame_bytes_max=sys.maxsize)
        while size := self._socket.recv_into(buffer.writable()):
            yield from buffer.advance(size)

    def send(self, kind: Kind, number: int, payload: bytes) -> None:
        header, body = encode_frame(kind, number, payload)
        if len(body) <= _JOIN_BYTES_MAX:
            self._socket.sendall(header + body)
        else:
            self._socket.sendall(header)
            self._socket.sendall(body)

    def close(self) -> None:
        self._socket.close()


class _Worker:
    """Handles frames one after the other; between tasks it restores what a step may have changed."""

    def __init__(self, connection: _Connection, setup: WorkerSetup) -> None:
        self._connection = connection
        self._setup = setup
        self._pid = os.getpid()
        self._attempt = 0
        self._environment = TaskEnvironment(self._writer(), setup.slot)
        self._rss = _ResidentMemory()
        sys.argv[:] = setup.argv
        self._baseline = _Baseline()
        os.register_at_fork(after_in_child=self._in_forked_child)

    def _writer(self) -> BlockWriter:
        # The process id keeps the names of a fork of user code apart from those of its parent.
        prefix = f"{attempt_prefix(self._setup.prefix, self._attempt)}{os.getpid():x}"
        return BlockWriter(self._setup.directory, self._setup.spill_directory, prefix)

    def _in_forked_child(self) -> None:
        """A fork of a user function neither speaks to the driver nor takes names of its parent's blocks."""
        self._connection.close()
        self._environment.writer = self._writer()

    def handle(self, frame: Frame) -> bool:
        """Act on one frame; False when it said stop."""
        if frame.kind == Kind.TASK:
            self._run(frame)
        elif frame.kind == Kind.PROGRAM:
            program_id, payload = pickle.loads(frame.payload)
            self._environment.add_program(program_id, payload)
        elif frame.kind == Kind.FORGET:
            self._environment.forget_program(pickle.loads(frame.payload))
        return frame.kind != Kind.STOP

    def _run(self, frame: Frame) -> None:
        self._attempt = frame.number
        self._environment.writer = self._writer()
        path = watch_path(self._setup.directory, self._setup.prefix, frame.number)
        self._environment.watch_path = path
        result = self._result(frame.payload)
        self._stay_single()
        payload = self._encoded(result)
        self._stay_single()
        self._baseline.flush()
        self._connection.send(Kind.RESULT, frame.number, payload)
        self._baseline.restore()  # after the reply: the driver does not wait for it

    def _result(self, payload: bytes | bytearray) -> TaskResult:
        try:
            task: Task = pickle.loads(payload)
        except BaseException as error:
            return TaskResult(-1, failure=describe(error, "task", kind="unpicklable"))
        return self._environment.run(task)

    def _stay_single(self) -> None:
        if os.getpid() != self._pid:  # a user function forked and its child came back here (A13)
            os._exit(0)

    def _encoded(self, result: TaskResult) -> bytes:
        rss = self._rss.bytes()
        try:
            payload = pickle.dumps(Reply(result, rss), protocol=5)
            if len(payload) <= self._setup.message_bytes_max:
                return payload
            failure = describe(_too_large(len(payload), self._setup.message_bytes_max), "task")
            failure = failure._replace(kind="unpicklable")
        except BaseException as error:  # a __reduce__ of the user may raise anything
            failure = describe(error, "task", kind="unpicklable")
        return pickle.dumps(
            Reply(TaskResult(result.task, failure=failure, slot=result.slot), rss), protocol=5
        )


def _too_large(size: int, limit: int) -> Exception:
    return OverflowError(
        f"the result of one task is {size} bytes, over message_bytes_max = {limit}: collect less, "
        "use more partitions, write it with a save operation, or raise PoolConfig.message_bytes_max"
    )


class _ResidentMemory:
    """Resident memory of this process, measured at most ten times a second."""

    def __init__(self) -> None:
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._due = 0.0

    def bytes(self) -> int:
        """Bytes, or 0 when it is too early to measure again or there is nothing to read."""
        now = time.monotonic()
        if now < self._due:
            return 0
        self._due = now + RSS_INTERVAL_S
        try:
            with open("/proc/self/statm", "rb", buffering=0) as file:
                return int(file.read().split()[1]) * self._page_bytes
        except OSError:
            return 0


_SIGNALS = tuple(
    getattr(signal, name)
    for name in (
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGQUIT",
        "SIGALRM",
        "SIGUSR1",
        "SIGUSR2",
        "SIGCHLD",
        "SIGPIPE",
    )
)


class _Baseline:
    """What every task finds: working directory, environment, signal handlers, timers, output streams.

    Not restored: modules that a step patched, the random state, the locale, the umask.
    """

    def __init__(self) -> None:
        self._directory = _working_directory()
        self._environment = dict(os.environ)
        # The mapping that os.environ wraps: comparing it is three hundred times cheaper.
        self._encoded_environment = dict(_encoded_environment())
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def flush(self) -> None:
        """Send buffered output on its way while its step is still known."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # closed or replaced by user code; restored below
                continue

    def restore(self) -> None:
        """Put back what differs."""
        sys.stdin, sys.stdout, sys.stderr = self._streams
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        if _encoded_environment() != self._encoded_environment:
            os.environ.clear()
            os.environ.update(self._environment)
        if self._directory is not None and _working_directory() != self._directory:
            with contextlib.suppress(OSError):  # removed meanwhile: the step may have done so
                os.chdir(self._directory)


def _encoded_environment() -> Mapping[Any, Any]:
    encoded: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
    return encoded


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
