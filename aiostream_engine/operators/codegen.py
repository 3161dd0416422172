"""Turn a task's tree into one generated Python function in which fused steps share a loop.

A chain of record steps becomes straight-line code inside of one ``for``: no generator and no
call a step but the user's own. When something raises, the line number says which step it was and
the frame's locals hold the record, so that good records pay nothing for the error report.
"""

from __future__ import annotations

import ast
import itertools
from collections import _count_elements  # type: ignore[attr-defined]
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ..blocks.formats import RECORDS_PER_PIECE
from .blame import CHUNK, PAIR, Compiled, Mark, codes_of, show_in_tracebacks
from .kernels import count_into, fill_into
from .structure import (
    Combiner,
    Concat,
    CountTerminal,
    Leaf,
    Merge,
    Multi,
    Partitioned,
    PartitionOp,
    Record,
    RecordOp,
    StateScan,
    Structure,
    Terminal,
    ToBlocks,
    ToBuckets,
    ToValue,
    Words,
)

__all__ = ["DROP", "Compiled", "compile_stage"]

# A list of results is handed on when it is this long: memory stays bounded, pickling stays quick.
RECORDS_BUFFERED_MAX = RECORDS_PER_PIECE

# Each step that gives many records is a loop in a loop, and Python nests about twenty blocks.
FLAT_STEPS_MAX = 8

DROP = object()  # what a recovered step gives for a record that goes no further
_numbers = itertools.count(1)


def compile_stage(
    structure: Structure, terminal: Terminal, source_step: str = "source", *, watched: bool = False
) -> Compiled:
    """Generate, compile and return the function of one stage.

    watched: tell the runtime what functions of many records have in hand, for a task that killed its worker.
    """
    emitter = _Emitter(source_step, watched)
    emitter.stage(structure, terminal)
    source = "\n".join(emitter.functions + emitter.lines) + "\n"
    filename = f"<stage {next(_numbers)}>"
    exec(compile(source, filename, "exec"), emitter.names)
    show_in_tracebacks(filename, source)
    return Compiled(source, emitter.names["stage"], filename, emitter.line_table(), emitter.steps_of_code())


def _parts(items: Iterable[Any]) -> Iterable[Iterable[Any]]:
    """The items in pieces; a short list, as most are, is the only one."""
    if type(items) is list and len(items) <= RECORDS_BUFFERED_MAX:
        return (items,)
    return _lazy_parts(iter(items))


def _lazy_parts(items: Iterator[Any]) -> Iterator[Iterable[Any]]:
    for first in items:
        yield chain((first,), itertools.islice(items, RECORDS_BUFFERED_MAX - 1))


def _never(x: str) -> None:
    raise AssertionError("a bulk statement takes all records")


def _origin(op: RecordOp) -> str:
    """Where an inlined function stands in the user's source, for the reader of a traceback."""
    if op.expression is None or op.fn is None:
        return ""
    return "  # " + " ".join(repr(op.fn).split())


def _makes_pairs(op: RecordOp) -> bool:
    """True when a step without a policy cannot give anything but a pair."""
    if op.policy is not None or op.kind not in ("map", "map_values", "key_by"):
        return False
    if op.kind != "map":
        return True
    if op.expression is None:
        return False
    tree = ast.parse(op.expression.replace("{x}", "x"), mode="eval").body
    starred = isinstance(tree, ast.Tuple) and any(isinstance(item, ast.Starred) for item in tree.elts)
    return isinstance(tree, ast.Tuple) and len(tree.elts) == 2 and not starred


@dataclass
class _Emitter:
    source_step: str
    watched: bool = False
    functions: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    marks: list[tuple[bool, int, Mark]] = field(default_factory=list)
    depth: int = 1
    in_function: bool = False
    leaves: int = 0
    states: int = 0
    indices: int = 0
    serial: int = 0
    exploding: RecordOp | None = None
    piece_depth: int = 0
    codes: dict[int, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names.update(
            DROP=DROP,
            flatten=chain.from_iterable,
            chain=chain,
            count=_count_elements,
            count_into=count_into,
            fill_into=fill_into,
            parts=_parts,
            fromkeys=dict.fromkeys,
        )

    # -- writing ---------------------------------------------------------------------------

    def write(self, text: str, step: str | None = None, record: str | None = None) -> None:
        target = self.functions if self.in_function else self.lines
        target.append("    " * self.depth + text)
        if step is not None:
            self.marks.append((self.in_function, len(target), Mark(step, record)))

    def line_table(self) -> dict[int, Mark]:
        shift = len(self.functions)
        return {line + (0 if inner else shift): mark for inner, line, mark in self.marks}

    def steps_of_code(self) -> dict[int, str]:
        return {code: min(steps) for code, steps in self.codes.items() if len(steps) == 1}

    def name(self, prefix: str, value: Any = None) -> str:
        self.serial += 1
        name = f"{prefix}{self.serial}"
        if value is not None:
            self.names[name] = value
        return name

    # -- iterables -------------------------------------------------------------------------

    def iterable(self, node: Structure) -> tuple[str, bool, str]:
        """An expression for the records of ``node``; whether it yields chunks; whom to blame for it."""
        match node:
            case Leaf():
                self.leaves += 1
                return f"rt.leaf({self.leaves - 1})", True, self.source_step
            case Words():
                self.leaves += 1
                return f"rt.words({self.leaves - 1})", True, self.source_step
            case Merge(combiner):
                self.leaves += 1
                name = self.name("combiner", combiner) if combiner else "None"
                return f"rt.merge({self.leaves - 1}, {name})", True, combiner.step if combiner else "shuffle"
            case Record():
                return self.generator(node), False, self.chain_of(node)[0][-1].step
            case Partitioned(op, child):
                return self.assigned(self.call(op, self.flat(child)), op.step), False, op.step
            case Multi(op, children):
                call = self.call(op, f"[{', '.join([self.flat(child) for child in children])}]", "columns")
                return self.assigned(call, op.step), False, op.step
            case StateScan(spec, step, children):
                # Numbered behind the states of its children, as the planner lists them.
                inputs = ", ".join([self.flat(child) for child in children])
                self.states += 1
                call = f"rt.state({self.states - 1}, {self.name('spec', spec)}, [{inputs}])"
                return self.assigned(call, step), False, step
            case Concat(children):
                return self.concat(children)
        raise TypeError(f"unknown structure {node!r}")

    def assigned(self, expression: str, step: str) -> str:
        """A line of its own, so that the call can be blamed, and calls do not nest without end."""
        name = self.name("s")
        self.write(f"{name} = {expression}", step)
        return name

    def concat(self, children: tuple[Structure, ...]) -> tuple[str, bool, str]:
        parts = [self.iterable(child) for child in children]
        step = parts[0][2] if parts else self.source_step
        if all(chunked for _, chunked, _ in parts):
            return f"chain({', '.join([text for text, _, _ in parts])})", True, step
        flat = [f"flatten({text})" if chunked else text for text, chunked, _ in parts]
        return f"chain({', '.join(flat)})", False, step

    def flat(self, node: Structure) -> str:
        text, chunked, _ = self.iterable(node)
        return f"flatten({text})" if chunked else text

    def call(self, op: PartitionOp, argument: str, kind: str = "partition") -> str:
        for code in codes_of(op.fn.call):
            self.codes.setdefault(id(code), set()).add(op.step)
        index = "rt.index, " if kind == "value" else f"rt.indices[{self.indices}], "
        first = {"": "", "index": index, "task": "rt, "}[op.passes]
        self.indices += op.passes == "index" and kind != "value"
        name = self.name("p", op.fn.call)
        if self.watched:
            return f"rt.watched_call({op.step!r}, {name}, ({first}), {argument}, {kind!r})"
        return f"{name}({first}{argument})"

    @staticmethod
    def chain_of(node: Structure) -> tuple[list[RecordOp], Structure]:
        """The record steps from the bottom up, and what they stand on."""
        ops: list[RecordOp] = []
        flat = 0
        while isinstance(node, Record):
            flat += node.op.kind.startswith("flat")
            if flat > FLAT_STEPS_MAX:
                break
            ops.append(node.op)
            node = node.child
        return ops[::-1], node

    def generator(self, node: Structure) -> str:
        ops, base = self.chain_of(node)
        text, chunked, step = self.iterable(base)
        name = self.name("g")
        saved = self.in_function, self.depth
        self.in_function, self.depth = True, 0
        self.write(f"def {name}(rt, source):")
        self.depth = 1
        self.loop("source", chunked, step, ops, lambda x: self.write(f"yield {x}"), bulk="yield from {}")
        self.in_function, self.depth = saved
        return f"{name}(rt, {text})"

    # -- loops -----------------------------------------------------------------------------

    def loop(
        self,
        source: str,
        chunked: bool,
        step: str,
        ops: list[RecordOp],
        sink: Callable[[str], None],
        after_chunk: str | None = None,
        bulk: str | None = None,
    ) -> None:
        """One fused loop; ``sink`` writes what happens to each result.

        after_chunk: a statement for when some results, never very many, are done.
        bulk: a statement over ``{}`` that takes all results of a chunk at once, where the only step is in C.
        """
        outer = self.depth
        record = None
        flat = [number for number, op in enumerate(ops) if op.kind.startswith("flat")]
        self.exploding = ops[flat[-1]] if flat and after_chunk else None
        if chunked or after_chunk:
            self.write(f"for chunk in {source if chunked else f'parts({source})'}:", step)
            self.depth += 1
            source = "chunk"
        self.piece_depth = self.depth
        if chunked and ops and ops[0].in_c and ops[0] is not self.exploding:
            self.write("it = iter(chunk)")
            source, step, record, ops = self.in_c(ops[0]), ops[0].step, CHUNK, ops[1:]
        if bulk is not None and record is not None and not ops:
            self.write(bulk.format(source), step, record)
        else:
            x = self.name("x")
            self.write(f"for {x} in {source}:", step, record)
            self.depth += 1
            for op in ops:
                x = self.record_op(op, x)
            sink(x)
        if after_chunk:
            self.depth = self.piece_depth
            self.write(after_chunk)
        self.depth = outer

    def each(self, op: RecordOp, item: str, items: str, x: str, origin: str = "") -> None:
        """The loop of a step that gives many records; one that may give very many is taken in pieces."""
        if op is self.exploding:
            part = self.name("s")
            self.write(f"for {part} in parts({items}):{origin}", op.step, x)
            self.depth += 1
            self.piece_depth = self.depth
            items = part
        self.write(f"for {item} in {items}:{origin}", op.step, x)
        self.depth += 1

    def in_c(self, op: RecordOp) -> str:
        """The records of a chunk through a step that needs no frame."""
        assert op.fn is not None
        function = self.name("f", op.fn.call)
        match op.kind:
            case "filter":
                return f"filter({function}, it)"
            case "flat_map":
                return f"flatten(map({function}, it))"
        return f"map({function}, it)"

    def record_op(self, op: RecordOp, x: str) -> str:
        if op.policy is not None:
            return self.guarded_op(op, x)
        y = self.name("x")
        call = self.application(op)
        origin = _origin(op)
        match op.kind:
            case "map":
                self.write(f"{y} = {call(x)}{origin}", op.step, x)
            case "filter":
                self.write(f"if not {call(x)}: continue{origin}", op.step, x)
                return x
            case "flat_map":
                self.each(op, y, call(x), x, origin)
            case "map_values" | "key_by":
                self.write(f"{y} = ({self.pair(op, x)}){origin}", op.step, x)
            case "flat_map_values":
                key, item = self.name("k"), self.name("v")
                self.write(f"{key} = {x}[0]", op.step, x)
                self.each(op, item, call(self.value_of(op, x)), x, origin)
                self.write(f"{y} = ({key}, {item})")
            case "keys":
                self.write(f"{y} = {x}[0]", op.step, x)
            case "values":
                self.write(f"{y} = {x}[1]", op.step, x)
        return y

    def pair(self, op: RecordOp, x: str) -> str:
        """Key and value that the step makes of ``x``, as two expressions with a comma between."""
        call = self.application(op)
        match op.kind:
            case "map_values":
                return f"{x}[0], {call(self.value_of(op, x))}"
            case "key_by":
                return f"{call(x)}, {x}"
        assert op.kind == "map"
        return call(x)

    def value_of(self, op: RecordOp, x: str) -> str:
        """The value of a pair; in a variable where an expression names it not just once."""
        if op.expression is None or op.expression.count("{x}") == 1:
            return f"{x}[1]"
        value = self.name("v")
        self.write(f"{value} = {x}[1]", op.step, x)
        return value

    def application(self, op: RecordOp) -> Callable[[str], str]:
        if op.expression is not None:
            expression = op.expression
            return lambda argument: f"({expression.replace('{x}', argument)})"
        if op.fn is None:
            return lambda argument: argument
        name = self.name("f", op.fn.call)
        return lambda argument: f"{name}({argument})"

    def guarded_op(self, op: RecordOp, x: str) -> str:
        """A step with an error policy: the runtime decides what becomes of a record that failed."""
        y, info = self.name("x"), self.name("op", op)
        self.write("try:")
        self.write(f"    {y} = rt.apply({info}, {x})", op.step, x)
        self.write("except Exception as error:")
        self.write(f"    {y} = rt.recover({info}, {x}, error)", op.step, x)
        self.write(f"    if {y} is DROP: continue")
        if op.kind == "filter":
            self.write(f"if not {y}: continue")
            return x
        if op.kind.startswith("flat"):
            z = self.name("x")
            self.each(op, z, y, x)
            return z
        return y

    # -- the stage -------------------------------------------------------------------------

    def stage(self, structure: Structure, terminal: Terminal) -> None:
        self.depth = 0
        self.write("def stage(rt):")
        self.depth = 1
        match terminal:
            case ToBlocks():
                self.to_blocks(structure)
            case ToBuckets(partitioner=partitioner, combiner=combiner):
                if combiner is not None and combiner.map_side:
                    self.to_combined(structure, terminal)
                else:
                    self.to_buckets(structure, partitioner)
            case ToValue(step, fn, passes):
                records = self.flat(structure)
                call = self.call(PartitionOp(step, fn, passes), records, "value")
                self.write(f"rt.value({call})", step)
            case CountTerminal():
                self.count_records(structure)

    def to_blocks(self, structure: Structure) -> None:
        ops, base = self.chain_of(structure)
        text, chunked, step = self.iterable(base)
        self.write("out = []")
        self.write("add = out.append")
        flush = f"if len(out) >= {RECORDS_BUFFERED_MAX}: out = rt.flush(out); add = out.append"
        self.loop(text, chunked, step, ops, lambda x: self.write(f"add({x})"), flush, "out.extend({})")
        self.write("rt.flush(out)")

    def to_buckets(self, structure: Structure, partitioner: Any) -> None:
        ops, base = self.chain_of(structure)
        text, chunked, step = self.iterable(base)
        blame = ops[-1].step if ops else step
        self.write(f"adds, place = rt.buckets({self.name('partitioner', partitioner)})")
        if type(partitioner).__name__ == "RoundRobin":
            self.loop(text, chunked, step, ops, lambda x: self.write(f"place()({x})"))
        else:
            self.loop(text, chunked, step, ops, lambda x: self.write(f"adds[place({x}[0])]({x})", blame, x))
        self.write("rt.finish_buckets()")

    def to_combined(self, structure: Structure, terminal: ToBuckets) -> None:
        assert terminal.combiner is not None
        ops, base = self.chain_of(structure)
        text, chunked, step = self.iterable(base)
        self.write("acc = {}")
        if terminal.counter:
            self.count_keys(ops, text, chunked, step)
        elif terminal.distinct:
            self.fill_keys(ops, text, chunked, step)
        else:
            self.combine_pairs(terminal.combiner, ops, text, chunked, step)
        self.write(
            f"rt.combined({self.name('partitioner', terminal.partitioner)}, acc)", terminal.combiner.step
        )

    def count_keys(self, ops: list[RecordOp], text: str, chunked: bool, step: str) -> None:
        """Counting in C: whole chunks, or whole results of a last ``flat_map``, at a time."""
        if not ops:
            self.write(f"count_into(acc, {f'flatten({text})' if chunked else text})", step)
        elif chunked and len(ops) == 1 and ops[0].in_c:
            self.loop(text, chunked, step, ops, _never, bulk="count(acc, {})")
        elif ops[-1].kind == "flat_map" and ops[-1].policy is None:
            last = ops[-1]
            call = self.application(last)
            self.loop(
                text, chunked, step, ops[:-1], lambda x: self.write(f"count(acc, {call(x)})", last.step, x)
            )
        else:
            add = "acc[{0}] = acc.get({0}, 0) + 1"
            self.loop(text, chunked, step, ops, lambda x: self.write(add.format(x), ops[-1].step, x))

    def fill_keys(self, ops: list[RecordOp], text: str, chunked: bool, step: str) -> None:
        """Each key once; the first of equal ones stays."""
        if not ops:
            self.write(f"fill_into(acc, {f'flatten({text})' if chunked else text})", step)
        else:
            sink: Callable[[str], None] = lambda x: self.write(f"acc[{x}] = None", ops[-1].step, x)  # noqa: E731
            self.loop(text, chunked, step, ops, sink, bulk="acc.update(fromkeys({}))")

    def combine_pairs(
        self, combiner: Combiner, ops: list[RecordOp], text: str, chunked: bool, step: str
    ) -> None:
        """Combining by key; a pair that the last step would only make to be taken apart is not made."""
        last = ops[-1] if ops and _makes_pairs(ops[-1]) else None

        def sink(x: str) -> None:
            if last is None:
                self.write(f"k, v = {x}", combiner.step, x)
                self.combine(combiner, x)
            else:
                self.write(f"k, v = {self.pair(last, x)}{_origin(last)}", last.step, x)
                self.combine(combiner, PAIR)

        self.loop(text, chunked, step, ops if last is None else ops[:-1], sink)

    def combine(self, combiner: Combiner, record: str) -> None:
        if combiner.merge_expression is None:
            merged = f"acc[k] = {self.name('merge', combiner.merge_value.call)}(acc[k], v)"
        elif combiner.merge_expression.count("{a}") == 1:
            merged = f"acc[k] = {combiner.merge_expression.replace('{a}', 'acc[k]').replace('{b}', 'v')}"
        else:
            expression = combiner.merge_expression.replace("{a}", "a").replace("{b}", "v")
            merged = f"a = acc[k]; acc[k] = {expression}"
        created = f"{self.name('create', combiner.create.call)}(v)" if combiner.create else "v"
        if self.watched:
            self.write(f"rt.takes({combiner.step!r}, (k, v))", combiner.step, record)
        self.write(f"if k in acc: {merged}", combiner.step, record)
        self.write(f"else: acc[k] = {created}", combiner.step, record)
        if self.watched:
            self.write("rt.lets_go()")

    def count_records(self, structure: Structure) -> None:
        ops, base = self.chain_of(structure)
        if not ops and isinstance(base, Leaf):
            self.leaves += 1
            self.write(f"rt.value(rt.count_leaf({self.leaves - 1}))", self.source_step)
            return
        text, chunked, step = self.iterable(base)
        self.write("n = 0")
        if not ops and chunked:
            self.write(f"for chunk in {text}: n += len(chunk)", step)
        else:
            self.loop(text, chunked, step, ops, lambda x: self.write("n += 1"))
        self.write("rt.value(n)")
