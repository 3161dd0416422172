"""One broker process: its directory, its settings, and what a test may do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .artifact import KafkaArtifact, KafkaUnavailableError
from .metadata import live_brokers

__all__ = ["BrokerProcess"]

JVM_OPTIONS = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
FORMAT_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
_SHIM = Path(__file__).with_name("exec_shim.py")

_LOGGING = """
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
"""


class BrokerProcess:
    """A broker that is also a controller, in a directory of its own.

    artifact: the jars, already fetched. directory: made when missing; data, settings and ``broker.log``
    are there. properties: the whole of ``server.properties``. port: of a listener without security.
    The process is the leader of its own process group, and on Linux it is killed when the thread that
    started it ends; hence only the main thread may start it.
    """

    def __init__(
        self, artifact: KafkaArtifact, directory: Path, properties: Mapping[str, object], port: int
    ) -> None:
        self._artifact = artifact
        self.directory = directory
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        # Read as escapes by Java: no backslash may stand alone.
        lines = (f"{name}={value}".replace("\\", "\\\\") for name, value in properties.items())
        self._settings.write_text("\n".join((*lines, f"log.dirs={directory / 'data'}", "")))
        (directory / "log4j2.properties").write_text(_LOGGING)

    @property
    def _settings(self) -> Path:
        return self.directory / "server.properties"

    @property
    def log_tail(self) -> str:
        """The end of what the broker wrote."""
        try:
            return (self.directory / "broker.log").read_text(errors="replace")[-3000:]
        except OSError:
            return ""

    @property
    def pid(self) -> int | None:
        """Of the running process, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def _java(self, main_class: str, arguments: Sequence[object]) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"
        command = [self._artifact.java, *JVM_OPTIONS, logging, "-cp", self._artifact.classpath, main_class]
        return [*command, *map(str, arguments)]

    def format(self, cluster_id: str, users: Mapping[str, str], mechanisms: Sequence[str]) -> None:
        """Prepare the directory, with the users' SCRAM credentials; does nothing when that was done."""
        if (self.directory / "data" / "meta.properties").exists():
            return
        arguments = ["format", "--cluster-id", cluster_id, "--config", self._settings]
        for mechanism in mechanisms:
            for user, password in users.items():
                arguments += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
        )
        if done.returncode:
            raise KafkaUnavailableError(
                f"Kafka cannot format its storage: {(done.stdout + done.stderr)[-2000:]}"
            )

    def spawn(self) -> None:
        """Start the process, without waiting until it answers. Takes milliseconds."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a broker dies with the thread that started it: start it from the main thread")
        if self.pid is not None:
            raise RuntimeError(f"the broker at port {self.port} is running")
        shim = [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid())]
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*shim, *self._java("kafka.Kafka", [self._settings])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, brokers: int, deadline: float) -> None:
        """Block until it answers and knows that many brokers; deadline in ``time.monotonic()`` seconds.

        Raises :class:`KafkaUnavailableError` with the end of its log when it ends or is late.
        """
        while live_brokers("127.0.0.1", self.port) < brokers:
            if self.pid is None:
                raise KafkaUnavailableError(f"Kafka ended while starting:\n{self.log_tail}")
            if time.monotonic() > deadline:
                raise KafkaUnavailableError(f"Kafka did not answer in time:\n{self.log_tail}")
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal to the process, when it runs."""
        if self.pid is not None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group; returns when it is gone."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when it does not end in time; returns when it is gone."""
        if self._process is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
