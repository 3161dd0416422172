"""The fetch of Kafka's jars, with a Maven that only pretends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aiostream_engine.testing.kafka.artifact import KafkaArtifact, KafkaUnavailableError

# Says each call, takes a moment, and writes two jars where it is told to.
_MAVEN = """#!/bin/sh
echo call >> "{calls}"
for argument; do case "$argument" in -DoutputDirectory=*) target="${{argument#*=}}";; esac; done
sleep 0.2
echo one > "$target/kafka.jar"
{then}
echo two > "$target/scala.jar"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a ``java`` that stands before all others."""
    directory = tmp_path / "programs"
    directory.mkdir()
    _program(directory / "java", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return directory


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _maven(programs: Path, then: str = "") -> Path:
    calls = programs / "calls"
    _program(programs / "mvn", _MAVEN.format(calls=calls, then=then))
    return calls


def _names(artifact: KafkaArtifact) -> list[str]:
    return sorted(path.name for path in artifact.directory.glob("*.jar"))


def test_what_was_fetched_is_not_fetched_again(programs: Path, tmp_path: Path) -> None:
    calls = _maven(programs)
    artifact = KafkaArtifact(tmp_path / "cache" / "kafka").fetch()
    assert _names(artifact) == ["kafka.jar", "scala.jar"]
    KafkaArtifact(tmp_path / "cache" / "kafka")._fetch()
    assert calls.read_text() == "call\n"


@pytest.mark.parametrize("harm", ["changed", "removed"])
def test_damaged_jars_are_fetched_again(programs: Path, tmp_path: Path, harm: str) -> None:
    calls = _maven(programs)
    artifact = KafkaArtifact(tmp_path / "kafka").fetch()
    jar = artifact.directory / "scala.jar"
    jar.write_text("other") if harm == "changed" else jar.unlink()
    assert not artifact.is_complete()
    artifact._fetch()
    assert artifact.is_complete()
    assert calls.read_text() == "call\ncall\n"


def test_a_fetch_that_fails_leaves_nothing_that_counts(programs: Path, tmp_path: Path) -> None:
    _maven(programs, then="echo 'no route to the repository'; exit 1")
    artifact = KafkaArtifact(tmp_path / "kafka")
    with pytest.raises(KafkaUnavailableError, match="no route to the repository"):
        artifact.fetch()
    assert not artifact.directory.exists()
    _maven(programs)
    assert artifact.fetch().is_complete()


def test_two_processes_fetch_once(programs: Path, tmp_path: Path) -> None:
    calls = _maven(programs)
    program = (
        "from pathlib import Path; from aiostream_engine.testing.kafka.artifact import KafkaArtifact; "
        f"print(KafkaArtifact(Path({str(tmp_path / 'kafka')!r})).fetch().is_complete())"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [one.communicate(timeout=60)[0] for one in both] == ["True\n", "True\n"]
    assert calls.read_text() == "call\n"
