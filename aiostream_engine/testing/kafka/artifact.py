"""Apache Kafka's jars, fetched once a user by Maven, and the Java that runs them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ...errors import EnvironmentFault

__all__ = ["KAFKA_VERSION", "KafkaArtifact", "KafkaUnavailableError"]

KAFKA_VERSION = "4.4.0"
SCALA_VERSION = "2.13"
LOG4J_VERSION = "2.25.5"  # without it the broker keeps to itself why it does not start
FETCH_TIMEOUT_S = 600
_MARK = "complete.json"

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_{scala}</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{log4j}</version>
    </dependency>
  </dependencies>
</project>
"""


class KafkaUnavailableError(EnvironmentFault):
    """Apache Kafka cannot be run on this machine; the message says what is missing and how to get it."""


class KafkaArtifact:
    """The jars of one Kafka version in the user's cache directory.

    directory: where the jars are kept; default ``$XDG_CACHE_HOME/aiostream-engine/kafka_2.13-<version>``.
    version: of ``org.apache.kafka:kafka_2.13`` on Maven Central.
    Two processes that fetch at once wait for one another; an interrupted fetch leaves nothing that
    would be taken for a whole one: the directory appears in one step and holds the checksums of its files.
    """

    def __init__(self, directory: Path | None = None, *, version: str = KAFKA_VERSION) -> None:
        self.version = version
        self.directory = directory or _cache_home() / f"kafka_{SCALA_VERSION}-{version}"

    @property
    def java(self) -> str:
        """Path of the Java launcher; raises :class:`KafkaUnavailableError` when there is none."""
        home = os.environ.get("JAVA_HOME")
        found = shutil.which("java", path=os.path.join(home, "bin")) if home else None
        found = found or shutil.which("java")
        if found is None:
            raise KafkaUnavailableError(_missing("java", "a Java 17 runtime", "openjdk-17-jdk-headless"))
        return found

    @property
    def classpath(self) -> str:
        """The class path for ``java -cp``; call :meth:`fetch` before."""
        return os.path.join(self.directory, "*")

    def is_complete(self) -> bool:
        """True when all files are there with the content that was fetched. Reads all of them (43 MB)."""
        try:
            mark = json.loads((self.directory / _MARK).read_text())
            return bool(mark) and all(_digest(self.directory / name) == mark[name] for name in mark)
        except (OSError, ValueError, TypeError, AttributeError):
            return False

    def fetch(self) -> KafkaArtifact:
        """Make the jars be there; gives itself. Blocks: seconds at the first time of a user.

        Raises :class:`KafkaUnavailableError` without Java or Maven, or when Maven fails.
        """
        _ = self.java
        _fetched(self.directory, self.version)
        return self

    def _fetch(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.directory.with_name(self.directory.name + ".lock")):
            if self.is_complete():  # another process was faster
                return
            partial = self.directory.with_name(f"{self.directory.name}.partial")
            for rest in (partial, self.directory):
                shutil.rmtree(rest, ignore_errors=True)
            partial.mkdir()
            self._copy_dependencies(partial)
            names = sorted(path.name for path in partial.iterdir() if path.suffix == ".jar")
            (partial / _MARK).write_text(json.dumps({name: _digest(partial / name) for name in names}))
            partial.rename(self.directory)

    def _copy_dependencies(self, target: Path) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            raise KafkaUnavailableError(_missing("mvn", "Apache Maven, which fetches Kafka", "maven"))
        pom = target / "pom.xml"
        pom.write_text(_POM.format(scala=SCALA_VERSION, version=self.version, log4j=LOG4J_VERSION))
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise KafkaUnavailableError(f"Maven did not fetch Kafka in {FETCH_TIMEOUT_S} s") from None
        if done.returncode:
            raise KafkaUnavailableError(
                f"Maven cannot fetch Kafka {self.version}:\n{(done.stdout + done.stderr)[-2000:]}"
            )


@cache
def _fetched(directory: Path, version: str) -> None:
    """Once a process: the files are not read again for each broker."""
    artifact = KafkaArtifact(directory, version=version)
    if not artifact.is_complete():
        artifact._fetch()


def _cache_home() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home if home and os.path.isabs(home) else Path.home() / ".cache") / "aiostream-engine"


def _missing(command: str, what: str, package: str) -> str:
    how = f"brew install {command}" if sys.platform == "darwin" else f"apt-get install {package}"
    return f"there is no `{command}`: a local Kafka needs {what} (for example: {how})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back with the file, or the process
        yield
