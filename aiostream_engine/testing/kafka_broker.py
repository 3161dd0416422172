"""Apache Kafka itself, started by tests and by developers on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from .kafka.artifact import KafkaArtifact, KafkaUnavailableError
from .kafka.certificates import Certificates
from .kafka.listeners import SCRAM_MECHANISMS, Listeners, security_properties
from .kafka.process import BrokerProcess

__all__ = ["Certificates", "KafkaArtifact", "KafkaUnavailableError", "LocalKafka"]

START_TIMEOUT_S = 90.0
START_ATTEMPTS_MAX = 3
JAVA_TIMEOUT_S = 120.0
_PREFIX = "aiostream-kafka-"

# For answers in milliseconds where a production cluster waits for others, and for a small footprint.
_QUICK: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 500,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
    "share.coordinator.state.topic.num.partitions": 1,
    "log.initial.task.delay.ms": 200,
    "log.retention.check.interval.ms": 300,
    "log.cleaner.backoff.ms": 200,
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 300,
    "auto.create.topics.enable": False,
    "num.network.threads": 2,
    "num.io.threads": 4,
}


class LocalKafka:
    """One or more real Apache Kafka brokers on free loopback ports, in a private directory.

    secure: add listeners with SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, unsecured OAUTHBEARER) and
        TLS, for :attr:`user` and :attr:`password`; see :meth:`address`.
    brokers: how many, each a controller too. See :meth:`cluster`.
    port: of the first broker's listener without security; 0 for any that is free.
    properties: settings of the brokers, by their Kafka names, over those for quick answers.
    directory: kept at the end; default: one in the system's temporary directory that is removed.
    Starts with :meth:`start` or ``with``. On Linux the brokers die with the process that started
    them, however it ends; they can be started from the main thread only. Blocking, except where said.
    """

    user = "alice"
    password = "wonderland-7"

    def __init__(
        self,
        *,
        secure: bool = False,
        brokers: int = 1,
        port: int = 0,
        properties: Mapping[str, object] | None = None,
        directory: Path | None = None,
        artifact: KafkaArtifact | None = None,
    ) -> None:
        self._artifact = artifact or KafkaArtifact()
        self._own_directory = directory is None
        self.directory = directory
        self._secure = secure
        self._brokers = brokers
        self._port = port
        self._properties = dict(properties or {})
        self._nodes: list[BrokerProcess] = []
        self._listeners: list[Listeners] = []
        self._certificates: Certificates | None = None

    @classmethod
    def cluster(cls, brokers: int = 3, *, properties: Mapping[str, object] | None = None) -> LocalKafka:
        """Several brokers that hold every internal topic; not started yet."""
        return cls(brokers=brokers, properties=properties)

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> LocalKafka:
        """Fetch, format, start and wait until all brokers know each other; gives itself.

        Raises :class:`KafkaUnavailableError` with the reason: no Java, no Maven, the broker's log.
        """
        self._artifact.fetch()
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            self._prepare()
            try:
                self._format_and_run()
                return self
            except BaseException as error:
                self.close()
                taken = isinstance(error, KafkaUnavailableError) and "in use" in str(error)
                if (
                    not taken or self._port or attempt == START_ATTEMPTS_MAX
                ):  # else another program took a port meanwhile
                    raise
        raise AssertionError("not reached")

    def _prepare(self) -> None:
        _remove_orphans()
        if self.directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        if self._secure:
            self._certificates = Certificates.make(self.directory / "certificates")
        self._listeners = [Listeners(self._secure, self._port if n == 0 else 0) for n in range(self._brokers)]
        self._nodes = [
            BrokerProcess(
                self._artifact,
                self.directory / f"broker-{number}",
                self._properties_of(number),
                self._listeners[number].ports["PLAIN"],
            )
            for number in range(self._brokers)
        ]

    def _properties_of(self, number: int) -> dict[str, object]:
        replicas = min(3, self._brokers)
        voters = (f"{n}@127.0.0.1:{one.ports['CONTROLLER']}" for n, one in enumerate(self._listeners))
        found: dict[str, object] = {
            **_QUICK,
            "node.id": number,
            "controller.quorum.voters": ",".join(voters),
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": max(1, replicas - 1),
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": 1,
            **self._listeners[number].properties(),
        }
        if self._certificates is not None:
            found |= security_properties(self.user, self.password, self._certificates)
        return {**found, **self._properties}

    def _format_and_run(self) -> None:
        # Begins with a letter: the tool that takes it would believe a "-" to begin an option.
        cluster_id = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        users = {self.user: self.password} if self._secure else {}
        for node in self._nodes:
            node.format(cluster_id, users, SCRAM_MECHANISMS)
        for node in self._nodes:
            node.spawn()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Block until all brokers that run answer and know each other."""
        deadline = time.monotonic() + timeout_s
        running = [node for node in self._nodes if node.pid is not None] or self._nodes
        for node in running:
            node.wait_ready(len(running), deadline)

    def stop(self) -> None:
        """End the brokers in order (SIGTERM); data stays for :meth:`restart`."""
        for node in self._nodes:
            node.stop()

    def close(self) -> None:
        """Kill the brokers and remove the directory, unless it was given. May be called twice."""
        for node in self._nodes:
            node.kill()
        if self._own_directory and self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def __enter__(self) -> LocalKafka:
        return self if self._nodes else self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- harm ----------------------------------------------------------------------------------

    def kill(self, broker: int = 0) -> None:
        """SIGKILL to one broker; returns when it is gone. Takes milliseconds."""
        self._nodes[broker].kill()

    def spawn(self, broker: int = 0) -> None:
        """Start a broker that was killed or stopped, on its ports and data, without waiting for it."""
        self._nodes[broker].spawn()

    def restart(self, broker: int = 0, timeout_s: float = START_TIMEOUT_S) -> None:
        """Kill a broker if it runs, start it on its ports and data, and wait until it answers."""
        self.kill(broker)
        self.spawn(broker)
        self.wait_ready(timeout_s)

    async def restarted(self, broker: int = 0, timeout_s: float = START_TIMEOUT_S) -> None:
        """As :meth:`restart`, for a running event loop: does not block it."""
        self.kill(broker)
        self.spawn(broker)
        await asyncio.to_thread(self.wait_ready, timeout_s)

    def freeze(self, broker: int = 0) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        self._nodes[broker].signal(signal.SIGSTOP)

    def thaw(self, broker: int = 0) -> None:
        """SIGCONT: undo :meth:`freeze`."""
        self._nodes[broker].signal(signal.SIGCONT)

    # -- what clients need ---------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """Addresses without security, as clients want them: ``host:port,host:port``."""
        return self.address("PLAIN")

    def address(self, listener: str) -> str:
        """Addresses of a listener: PLAIN, PROXIED, and when secure SASL, TLS, MTLS, SASLTLS."""
        return ",".join(f"127.0.0.1:{one.ports[listener]}" for one in self._listeners)

    @property
    def proxy_port(self) -> int:
        """Where clients of the listener PROXIED are sent by the broker's metadata: put a proxy there.

        The proxy passes on to the port of ``address("PROXIED")``. First broker.
        """
        return self._listeners[0].ports["PROXY"]

    @property
    def certificates(self) -> Certificates:
        """Of the TLS listeners; raises RuntimeError when there are none."""
        if self._certificates is None:
            raise RuntimeError("there are certificates with secure=True only")
        return self._certificates

    def pid(self, broker: int = 0) -> int | None:
        """Of a broker's process; None when it does not run."""
        return self._nodes[broker].pid

    def pids(self) -> list[int]:
        """Of all brokers that run."""
        return [node.pid for node in self._nodes if node.pid is not None]

    def log(self, broker: int = 0) -> str:
        """The end of what a broker wrote."""
        return self._nodes[broker].log_tail

    def java(self, source: Path, *arguments: object, timeout_s: float = JAVA_TIMEOUT_S) -> str:
        """Run a Java file (``public static void main``) with Kafka's client classes; gives its output.

        Raises RuntimeError with what it wrote when it fails. Needs a JDK; takes some 2 s.
        """
        options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", self._artifact.classpath]
        done = subprocess.run(
            [self._artifact.java, *options, str(source), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode:
            raise RuntimeError(f"{source.name} fails: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout


def _remove_orphans() -> None:
    """Directories of processes that were killed before they could remove them."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
            pid = int(path.name.removeprefix(_PREFIX).split("-")[0])
            if not _is_alive(pid):
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
