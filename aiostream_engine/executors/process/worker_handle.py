"""One worker process as the driver sees it: start it, talk to it, bury it.

Everything happens in callbacks of the event loop; nothing here waits. Starting takes about a
millisecond (``vfork`` and ``exec``), which a thread hop would not make cheaper.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from .output import OutputLog, RateLimit
from .wire import Frame, FrameBuffer, Kind, WireError, encode_frame

__all__ = ["ProcessSettings", "WorkerHandle", "WorkerListener"]

# The child imports with exactly the driver's search path, whatever its own start-up made of it.
_BOOT = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); "
    "from aiostream_engine.executors.process.worker import main; main()"
)
_JOIN_BYTES_MAX = 64 * 1024
_READS_MAX = 16  # of one callback: a chatty worker must not starve the loop
_POLL_S = 0.02
_CLOSED_GRACE_S = 1.0  # between the end of the byte stream and the end of the process


class ProcessSettings(NamedTuple):
    """What all workers of a pool start with, taken once so that replacements equal the first ones."""

    directory: str | None
    environment: Mapping[str, str]
    term_grace_s: float
    message_bytes_max: int
    output_lines_per_s_max: int
    on_output: Callable[[str], None] | None = None


class WorkerListener(Protocol):
    """Who is told what a worker does."""

    def on_frame(self, worker: WorkerHandle, frame: Frame) -> None:
        """The worker sent a message."""

    def on_misbehaviour(self, worker: WorkerHandle, cause: str) -> None:
        """The worker's messages cannot be read, or it closed its end and lives on."""

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        """The process is gone and reaped; the last call for this worker."""


class WorkerHandle:
    """Starts one worker process and watches it until it is reaped.

    Parameters
    ----------
    slot, generation: which worker this is.
    setup: payload of its first message.
    step: gives the name of the step that the slot runs, for the log.

    Raises OSError when no process can be started.
    """

    def __init__(
        self,
        slot: int,
        generation: int,
        setup: bytes,
        settings: ProcessSettings,
        listener: WorkerListener,
        step: Callable[[], str],
    ) -> None:
        self.slot = slot
        self.generation = generation
        self._settings = settings
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[memoryview] = deque()
        self._buffer = FrameBuffer(settings.message_bytes_max + 64 * 1024)
        self._timers: list[asyncio.TimerHandle] = []
        self._reading = False
        self._pid_fd = -1
        self._reaped = True  # there is nothing to reap yet
        self._killed = False
        self.ended = False  # the process is dead, though its last messages may still be told
        self.rate_limit = RateLimit(settings.output_lines_per_s_max)
        with contextlib.ExitStack() as on_failure:
            self._spawn(on_failure, step)
            on_failure.pop_all()
        self._reaped = False
        self._watch()
        self.send([encode_frame(Kind.SETUP, 0, setup)])

    @property
    def pid(self) -> int:
        """Process id; also that of its process group and session."""
        return self._process.pid

    @property
    def error_tail(self) -> str:
        """The end of what the worker wrote on standard error."""
        return self._error_output.tail

    # -- start -------------------------------------------------------------------------------

    def _spawn(self, on_failure: contextlib.ExitStack, step: Callable[[], str]) -> None:
        with contextlib.ExitStack() as theirs:
            self._socket, wire = socket.socketpair()
            theirs.callback(wire.close)
            on_failure.callback(self._socket.close)
            death_fd, self._life_fd = os.pipe()
            theirs.callback(os.close, death_fd)
            on_failure.callback(os.close, self._life_fd)
            output_fds = []
            self._outputs = []
            for level in (logging.INFO, logging.WARNING):
                ours, fd = os.pipe()
                theirs.callback(os.close, fd)
                on_failure.callback(os.close, ours)
                os.set_blocking(ours, False)
                output_fds.append(fd)
                self._outputs.append(
                    OutputLog(
                        ours,
                        level,
                        self.slot,
                        step,
                        self.rate_limit,
                        self._loop.time,
                        self._settings.on_output,
                    )
                )
            self._error_output = self._outputs[1]
            self._process = subprocess.Popen(
                _command(wire.fileno(), death_fd),
                stdin=subprocess.DEVNULL,
                stdout=output_fds[0],
                stderr=output_fds[1],
                pass_fds=(wire.fileno(), death_fd),
                start_new_session=True,
                cwd=self._settings.directory,
                env=self._settings.environment,
            )

    def _watch(self) -> None:
        _alive.add(self)
        self._socket.setblocking(False)
        self._reading = True
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
        for output in self._outputs:
            self._loop.add_reader(output.fd, self._on_output, output)
        try:
            self._pid_fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or forbidden by a sandbox
            self._after(_POLL_S, self._poll_exit)
        else:
            self._loop.add_reader(self._pid_fd, self._on_exit)

    def _after(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_s, callback))

    # -- messages ----------------------------------------------------------------------------

    def send(self, frames: Sequence[tuple[bytes, bytes]]) -> None:
        """Write frames in order without waiting; what the socket does not take follows when it can."""
        parts = [part for frame in frames for part in frame]
        if sum(map(len, parts)) <= _JOIN_BYTES_MAX:
            parts = [b"".join(parts)]
        idle = not self._unsent
        self._unsent.extend(memoryview(part) for part in parts if part)
        if idle and not self._reaped:
            self._write()
            if self._unsent:
                self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _write(self) -> None:
        try:
            while self._unsent:
                part = self._unsent[0]
                sent = self._socket.send(part)
                if sent == len(part):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = part[sent:]
        except BlockingIOError:
            pass
        except OSError:  # the worker died: its exit is told apart (A22)
            self._unsent.clear()

    def _on_writable(self) -> None:
        self._write()
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> None:
        for _ in range(_READS_MAX):
            if not self._read():
                return

    def _read(self) -> bool:
        """Read once and tell the listener; False when there is nothing more to read now."""
        target = self._buffer.writable()
        try:
            size = self._socket.recv_into(target)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            size = 0
        if size == 0:
            self._stop_reading()
            self._after(_CLOSED_GRACE_S, self._closed_and_alive)
            return False
        full = size == len(target)
        try:
            for frame in self._buffer.advance(size):
                self._listener.on_frame(self, frame)
        except WireError as error:
            self._stop_reading()
            self._listener.on_misbehaviour(self, str(error))
            return False
        return full and self._reading

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _closed_and_alive(self) -> None:
        self._listener.on_misbehaviour(self, "it closed its connection to the driver")

    def _on_output(self, output: OutputLog) -> None:
        if not output.read():
            self._loop.remove_reader(output.fd)

    # -- end ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask an idle worker to leave; it is killed when it has not after the grace time."""
        self.send([encode_frame(Kind.STOP, 0, b"")])
        self._after(self._settings.term_grace_s, self.kill)

    def terminate(self) -> None:
        """SIGTERM to the worker and all of its descendants, SIGKILL after the grace time."""
        self._signal(signal.SIGTERM)
        self._after(self._settings.term_grace_s, self.kill)

    def kill(self) -> None:
        """SIGKILL to the worker and all of its descendants that stayed in its process group."""
        self._killed = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self._reaped:  # until then the number of the group cannot belong to anybody else
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _poll_exit(self) -> None:
        # Without a descriptor for the process we must ask; reaping is left to _on_exit.
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self._after(_POLL_S, self._poll_exit)
        else:
            self._on_exit()

    def _on_exit(self) -> None:
        if self._reaped:
            return
        self.ended = True
        while self._reading and self._read():  # a last reply may have been complete
            pass
        own_kill = self._killed
        self.kill()  # what the worker leaves behind in its group
        self._reaped = True
        self._release()
        self._listener.on_exit(self, _reason(self._process.wait(), own_kill))

    def _release(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._stop_reading()
        self._loop.remove_writer(self._socket.fileno())
        self._unsent.clear()
        self._socket.close()
        for output in self._outputs:
            self._loop.remove_reader(output.fd)
            output.close()
        if self._pid_fd >= 0:
            self._loop.remove_reader(self._pid_fd)
            os.close(self._pid_fd)
        os.close(self._life_fd)
        _alive.discard(self)

    def __del__(self) -> None:
        # The loop was closed over our head: the kernel kills the worker with the life pipe.
        if not self._reaped:
            for fd in (self._life_fd, self._pid_fd, *(output.fd for output in self._outputs)):
                with contextlib.suppress(OSError):
                    os.close(fd)

    def forget_in_child(self) -> None:
        """In a fork of the driver: let go of the ends that must die with the driver."""
        self._socket.close()
        os.close(self._life_fd)


def _command(wire_fd: int, death_fd: int) -> list[str]:
    if not sys.executable:
        raise FileNotFoundError("sys.executable is empty: this embedded interpreter cannot start workers")
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # -O, -W, -X …
    search_path = "\n".join(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str))
    return [sys.executable, *flags, "-c", _BOOT, search_path, str(wire_fd), str(death_fd)]


def _reason(status: int, own_kill: bool) -> str:
    if status >= 0:
        return f"worker process exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (not by the engine: out of memory?)" if name == "SIGKILL" and not own_kill else ""
    return f"worker process was killed by {name}{hint}"


_alive: weakref.WeakSet[WorkerHandle] = weakref.WeakSet()


def _in_forked_child() -> None:
    for worker in list(_alive):
        worker.forget_in_child()


# A fork of the host (multiprocessing, for one) would keep the workers alive beyond the driver.
os.register_at_fork(after_in_child=_in_forked_child)
