"""Input files, made once from a seed and kept in ``benchmarks/.data``."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .program import digest_counts

__all__ = ["DATA", "Dataset", "grep_records", "zipf_words"]

DATA = Path(__file__).resolve().parent.parent / ".data"
FILES = 8
WORDS_PER_LINE = 10
VOCABULARY = 10_000
RECORD_BYTES = 100  # with its line end
_LINES_PER_CHUNK = 20_000


@dataclass(frozen=True)
class Dataset:
    """Files of lines and what is known about them: lines, bytes and the right answer."""

    directory: Path
    files: tuple[Path, ...]
    facts: dict[str, Any]


def zipf_words(lines: int) -> Dataset:
    """``lines`` lines of 10 words, Zipf-distributed over 10 000 words, in 8 files.

    Facts: lines, words, bytes, and the digest of the right word count.
    """
    return _dataset(f"words-{lines}", lambda part: _word_chunks(part, lines), _count_words)


def grep_records(records: int) -> Dataset:
    """``records`` lines of 100 bytes in 8 files, of which about 1 in 1 000 holds ``ERROR``.

    Facts: lines, bytes, matches.
    """
    return _dataset(f"records-{records}", lambda part: _record_chunks(part, records), _count_matches)


def _dataset(name: str, chunks: Any, facts_of: Any) -> Dataset:
    directory = DATA / name
    facts_path = directory / "facts.json"
    files = tuple(directory / f"part-{part}.txt" for part in range(FILES))
    if not facts_path.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for part, path in enumerate(files):
            with path.open("w", encoding="ascii") as file:
                file.writelines(chunks(part))
        facts_path.write_text(json.dumps(facts_of(files)))
    return Dataset(directory, files, json.loads(facts_path.read_text()))


def _share(total: int, part: int) -> int:
    return total * (part + 1) // FILES - total * part // FILES


def _vocabulary() -> list[str]:
    source = random.Random(20130)
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(3, 9)))] = None
    return list(words)


def _word_chunks(part: int, lines: int) -> Iterator[str]:
    source = random.Random(f"words {part}")
    words = _vocabulary()
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(VOCABULARY)))
    left = _share(lines, part)
    while left:
        size = min(left, _LINES_PER_CHUNK)
        drawn = source.choices(words, cum_weights=weights, k=size * WORDS_PER_LINE)
        for at in range(0, len(drawn), WORDS_PER_LINE):
            yield " ".join(drawn[at : at + WORDS_PER_LINE]) + "\n"
        left -= size


def _count_words(files: tuple[Path, ...]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    lines = 0
    for path in files:
        text = path.read_text(encoding="ascii")
        lines += text.count("\n")
        counts.update(text.split())
    size = sum(path.stat().st_size for path in files)
    return {"lines": lines, "words": counts.total(), "bytes": size, "answer": digest_counts(counts)}


def _record_chunks(part: int, records: int) -> Iterator[str]:
    source = random.Random(f"records {part}")
    filler = "".join(source.choices("abcdefghijklmnopqrstuvwxyz     ", k=100_000))
    for number in range(_share(records, part)):
        head = f"{number:010d} {'ERROR' if source.random() < 0.001 else 'INFO '} "
        at = source.randrange(len(filler) - RECORD_BYTES)
        yield f"{head}{filler[at : at + RECORD_BYTES - len(head) - 1]}\n"


def _count_matches(files: tuple[Path, ...]) -> dict[str, Any]:
    lines = matches = 0
    for path in files:
        with path.open(encoding="ascii") as file:
            for line in file:
                lines += 1
                matches += "ERROR" in line
    return {"lines": lines, "matches": matches, "bytes": sum(path.stat().st_size for path in files)}
