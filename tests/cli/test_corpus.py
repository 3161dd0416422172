from __future__ import annotations

import itertools

import pytest

from aiostream_engine.cli import corpus as corpus_module
from aiostream_engine.cli.corpus import Corpus, default_corpus, text_files


@pytest.fixture
def library(tmp_path):
    for name, content in {
        "b.txt": b"b1\nb2",
        "a/x.txt": b"x1\r\n",
        "a/__pycache__/y.py": b"no",
        ".hidden/z.txt": b"no",
        ".z": b"no",
        "image.png": b"\x89PNG\0\0",
        "empty.txt": b"",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path)
    return tmp_path


def test_text_files_below_a_directory_are_found_in_order_without_hidden_and_binary_ones(library):
    assert [str(path.relative_to(library)) for path in text_files(library)] == ["a/x.txt", "b.txt"]


def test_lines_of_files_never_glue_to_each_other(library):
    corpus = Corpus([library / "b.txt", library / "a"])
    assert b"".join(itertools.chain(*corpus.pieces(loop=False))) == b"b1\nb2\nx1\r\n"


def test_a_loop_begins_again(library):
    pieces = Corpus([library / "b.txt"]).pieces(loop=True)
    assert [next(pieces) for _ in range(3)] == [[b"b1\n", b"b2\n"]] * 3


def test_a_loop_over_nothing_ends(library):
    corpus = Corpus([library / "b.txt"])
    (library / "b.txt").unlink()
    assert list(corpus.pieces(loop=True)) == []


def test_large_files_come_in_bounded_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "LINE_BYTES_MAX", 1000)
    monkeypatch.setattr(corpus_module, "PIECE_BYTES", 5000)
    content = b"x" * 50_000 + b"\n" + b"line\n" * 3000
    (tmp_path / "big").write_bytes(content)
    pieces = list(Corpus([tmp_path / "big"]).pieces(loop=False))
    assert b"".join(itertools.chain(*pieces)) == content
    assert max(sum(map(len, piece)) for piece in pieces) <= 6000


def test_the_default_text_is_real_and_always_there():
    corpus = default_corpus()
    assert len(corpus.files) > 50
    assert len(next(corpus.pieces(loop=True))) > 1
