#!/usr/bin/env python3
"""Compare the public names of PySpark with the layer's and write the table of docs/pyspark.md.

    scripts/pyspark_table.py            write the table
    scripts/pyspark_table.py --check    say whether it is up to date (exit status)

Names and signatures come from PySpark as it is installed by `benchmarks/setup --peers pyspark --no-data`.
What differs and why is what the layer's docstrings say after "Differs:"; what is missing and why is what
the layer tells a program that asks for it; pyspark_differences.toml has the reasons for what has neither.
A name that is neither the same nor explained is an error.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "pyspark.md"
REASONS = Path(__file__).with_name("pyspark_differences.toml")
PEER = ROOT / "benchmarks" / ".peers" / "pyspark" / "bin" / "python"
LAYER = "aiostream_engine.compat.pyspark"
BEGIN, END = "<!-- table: begin (scripts/pyspark_table.py) -->", "<!-- table: end -->"

# Where a PySpark program finds the classes, by the module that defines them.
CLASSES = {
    "streaming": ["StreamingContext", "DStream", "StreamingListener"],
    "streaming.dstream": ["TransformedDStream"],
    "streaming.kinesis": ["KinesisUtils", "InitialPositionInStream", "MetricsLevel"],
    "": [
        "SparkContext",
        "RDD",
        "SparkConf",
        "Broadcast",
        "Accumulator",
        "AccumulatorParam",
        "StorageLevel",
        "SparkFiles",
        "TaskContext",
    ],
    "resultiterable": ["ResultIterable"],
    "statcounter": ["StatCounter"],
}
# What the modules offer besides, as far as it has no underscore.
MODULES = ["", "streaming", "streaming.listener", "streaming.kinesis", "streaming.util"]
SPECIAL = ("__init__",)
LISTED = {name for names in CLASSES.values() for name in names}

Survey = dict[str, Any]


def survey(package: str) -> Survey:
    """``name -> signature`` of each public name: a list of [parameter, default], or None for no callable."""
    found: Survey = {}
    for module_name, classes in CLASSES.items():
        module = _module(package, module_name)
        for name in classes:
            kind = getattr(module, name, None)
            if kind is not None:
                found |= _members(name, kind)
    for module_name in MODULES:
        for name in _names(_module(package, module_name)) - LISTED:
            found[f"{module_name or 'pyspark'}: {name}"] = None
    return found


def _module(package: str, name: str) -> Any:
    try:
        return importlib.import_module(f"{package}.{name}" if name else package)
    except ModuleNotFoundError:
        return None


def _names(module: Any) -> set[str]:
    if module is None:
        return set()
    if hasattr(module, "__all__"):
        return set(module.__all__)
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def _members(owner: str, kind: type) -> Survey:
    found: Survey = {}
    for base in reversed(kind.__mro__[:-1]):
        if base is not kind and base.__name__ in LISTED:  # its members have rows of their own
            continue
        for name, value in vars(base).items():
            if name in SPECIAL or not name.startswith("_"):
                found[f"{owner}.{name}"] = _signature(getattr(kind, name), value)
    return found


def _signature(value: Any, raw: Any) -> list[list[str]] | None:
    if not callable(value) or isinstance(value, type):
        return None
    parameters = list(inspect.signature(value).parameters.values())
    if parameters and parameters[0].name in ("self", "cls") and not isinstance(raw, staticmethod):
        parameters = parameters[1:]
    return [[str(p).partition(":")[0].partition("=")[0], _default(p.default)] for p in parameters]


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    name = getattr(value, "__name__", None)
    return (str(name) if name else repr(value)).replace("<lambda>", "a function")


def differences(package: str) -> dict[str, str]:
    """What the docstrings of a package's classes and methods say after "Differs:"."""
    found = {}
    for module_name, classes in CLASSES.items():
        module = _module(package, module_name)
        for owner in classes:
            kind = getattr(module, owner, None)
            for name in _members(owner, kind) if kind is not None else ():
                member = name.rpartition(".")[2]
                value = kind if member == "__init__" else getattr(kind, member)
                told = "" if type(value) is kind else inspect.getdoc(value) or ""
                why = told.partition("Differs: ")[2].split("\n\n")[0]
                if why:
                    found[name] = _in_markdown(why)
    return found


def _in_markdown(text: str) -> str:
    plain = re.sub(r":\w+:`([^`]+)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    return plain.replace("|", "\\|").rstrip(".")


def real_survey() -> Survey:
    """The survey of the installed PySpark."""
    command = [str(PEER), str(Path(__file__).resolve()), "--survey", "pyspark"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: Survey = json.loads(done.stdout)
    return found


class Table:
    """Every public name of PySpark with what the layer makes of it."""

    def __init__(
        self, theirs: Survey, mine: Survey, missing: dict[str, str], reasons: dict[str, Any]
    ) -> None:
        self.theirs = theirs
        self.reasons = reasons
        self.mine = mine
        self.differs: dict[str, str] = {**differences(LAYER), **reasons["differs"]}
        self.missing = {**missing, **reasons["missing"]}
        self.signatures: dict[str, str] = reasons["signatures"]
        self.may_be_missing: list[str] = reasons["may_be_missing"]

    def status(self, name: str) -> tuple[str, str]:
        """(same, differs or missing; why)."""
        if name in self.missing:
            return "missing", self.missing[name]
        why = [self.differs[name]] if name in self.differs else []
        why += [self.signatures[name]] if name in self.signatures else []
        return ("differs", "; ".join(why)) if why else ("same", "")

    def problems(self) -> list[str]:
        """What is not explained, and explanations of what is not there."""
        found = []
        for name, signature in self.theirs.items():
            here = name in self.mine
            if not here and name not in self.missing:
                found.append(f"{name} is not in the layer, and no reason is given")
            if here and name in self.missing:
                found.append(f"{name} is said to be missing, and is there")
            if here and self.mine[name] != signature and name not in self.signatures:
                found.append(f"{name} takes {self.mine[name]}, in PySpark {signature}")
        explained = {*self.reasons["differs"], *self.missing, *self.signatures}
        return found + [f"{name} is explained, and not in PySpark" for name in explained - {*self.theirs}]

    def rows(self) -> str:
        """The document's tables, one a class or module."""
        owners: dict[str, list[str]] = {}
        for name in self.theirs:
            owners.setdefault(_owner(name), []).append(name)
        return "\n".join(self._section(owner, names) for owner, names in owners.items())

    def _section(self, owner: str, names: list[str]) -> str:
        counts = {kind: [self.status(name)[0] for name in names].count(kind) for kind in KINDS}
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        lines = [f"### {owner} ({told})", "", "| Name | Here | How, and why |", "|---|---|---|"]
        for name in sorted(names, key=lambda name: (name.rpartition(".")[2].lower(), name)):
            status, why = self.status(name)
            lines.append(f"| {self._shown(name)} | {status} | {why} |")
        return "\n".join([*lines, ""])

    def _shown(self, name: str) -> str:
        short = name.partition(": ")[2] or name.rpartition(".")[2]
        parameters = self.theirs[name]
        if parameters is None:
            return f"`{short}`"
        inside = ", ".join(
            f"{parameter}={default}" if default else parameter for parameter, default in parameters
        )
        text = f"{_owner(name)}({inside})" if short == "__init__" else f"{short}({inside})"
        return f"`{text}`".replace("|", "\\|")


KINDS = ("same", "differs", "missing")


def _owner(name: str) -> str:
    module, colon, _ = name.partition(": ")
    if colon:
        return "Module " + (module if module == "pyspark" else f"pyspark.{module}")
    return name.rpartition(".")[0]


def table() -> Table:
    """The comparison with the installed PySpark."""
    sys.path.insert(0, str(ROOT))
    from aiostream_engine.compat.pyspark.missing import MISSING

    return Table(real_survey(), survey(LAYER), MISSING, tomllib.loads(REASONS.read_text()))


def document(made: Table) -> str:
    """The document with the tables of now."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made.rows()}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the table is old")
    parser.add_argument("--survey", metavar="PACKAGE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.survey:
        print(json.dumps(survey(given.survey)))
        return 0
    made = table()
    if problems := made.problems():
        print("\n".join(problems))
        return 1
    text = document(made)
    if given.check:
        return int(text != DOCUMENT.read_text())
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
