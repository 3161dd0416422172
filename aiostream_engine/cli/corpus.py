"""Lines of text for feeders: files and directories, read piece by piece."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Corpus", "default_corpus", "text_files"]

LINE_BYTES_MAX = 1024 * 1024
PIECE_BYTES = 64 * 1024
_SKIPPED = {"__pycache__", "site-packages", "dist-packages", "node_modules"}


def text_files(path: Path) -> Iterator[Path]:
    """The file itself, or the text files below a directory, sorted; hidden and binary ones left out."""
    if path.is_file():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.name.startswith(".") or entry.name in _SKIPPED or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from text_files(entry)
        elif entry.is_file() and _is_text(entry):
            yield entry


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return bool(head) and b"\0" not in head


class Corpus:
    """Lines of the given files and directories, in order. Reading blocks: do it in a thread."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.files = tuple(file for path in paths for file in text_files(path))

    def pieces(self, *, loop: bool) -> Iterator[list[bytes]]:
        """Lists of lines with their ends, of about ``PIECE_BYTES``; for ever when ``loop`` is set.

        A file that vanished meanwhile is skipped; when none is left it ends.
        """
        while True:
            empty = True
            for file in self.files:
                for piece in _pieces_of(file):
                    empty = False
                    yield piece
            if empty or not loop:
                return


def _pieces_of(path: Path) -> Iterator[list[bytes]]:
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        lines: list[bytes] = []
        size = 0
        while line := file.readline(LINE_BYTES_MAX):
            if len(line) < LINE_BYTES_MAX and not line.endswith(b"\n"):
                line += b"\n"  # the end of the file, lest it glues to the next one
            lines.append(line)
            size += len(line)
            if size >= PIECE_BYTES:
                yield lines
                lines, size = [], 0
        if lines:
            yield lines


def default_corpus() -> Corpus:
    """Real text that is always there: the project's own pages, and the sources of the standard library."""
    project = Path(__file__).resolve().parents[2]
    pages = [project / "README.md", project / "docs"]
    library = Path(sysconfig.get_paths()["stdlib"])
    return Corpus([*(page for page in pages if page.exists()), *_library_parts(library)])


def _library_parts(library: Path) -> list[Path]:
    # The top-level modules and a few packages: enough text, and quickly listed.
    packages = [library / name for name in ("asyncio", "concurrent", "email", "http", "json", "logging")]
    return [*sorted(library.glob("*.py")), *(package for package in packages if package.is_dir())]
