"""``explain`` shows the plan after each named stage, from the same data that is run."""

from __future__ import annotations

import pytest

from aiostream_engine import EngineContext
from aiostream_engine.errors import OptionError

sc = EngineContext("local", parallelism=2)
counts = (
    sc.parallelize(["a b", "a"])
    .flat_map(lambda line: line.split(" "), name="split")
    .map(lambda word: (word, 1), name="pair")
    .reduce_by_key(lambda a, b: a + b)
)


def test_the_logical_plan_is_the_lineage() -> None:
    lines = counts.explain("logical").splitlines()
    assert [line.split("[")[0].strip() for line in lines] == [
        "(2) +-Exchange reduce_by_key by HashPartitioner(2)",
        "(2)   | Narrow pair",
        "(2)     | Narrow split",
        "(2)       | Source parallelize (2 blocks of pickle)",
    ]


def test_the_physical_plan_shows_stages_and_fused_steps() -> None:
    assert counts.explain() == counts.explain("physical")
    assert counts.explain().splitlines() == [
        "stage 0: reduce_by_key (2 tasks)",
        "    -> combine reduce_by_key to 2 by HashPartitioner",
        "    map pair",
        "      flat_map split",
        "        read pickle",
        "stage 1: reduce_by_key (2 tasks, after stage 0)",
        "    -> blocks",
        "    merge segments (reduce_by_key)",
    ]


def test_the_optimised_plan_shows_what_the_rules_made_of_it() -> None:
    text = counts.explain("optimised")
    assert "count to 2 by HashPartitioner" in text
    assert "flat_map split = {x}.split(' ')" in text
    assert "map pair" not in text
    plain = EngineContext("local", rules=()).from_node(counts.node)
    assert plain.explain("optimised") == plain.explain("physical")


def test_the_code_is_what_the_workers_run() -> None:
    code = counts.explain("code")
    assert code.count("def stage(rt):") == 2
    assert "count(acc, (x1.split(' ')))" in code
    for part in code.split("# stage ")[1:]:
        compile(part.split("\n", 1)[1], "<stage>", "exec")


def test_what_must_look_at_data_first_is_shown_as_one_step() -> None:
    text = counts.sort_by_key().zip_with_index().explain()
    assert "result of zip_with_index" in text


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError, match="logical, physical, optimised, code"):
        counts.explain("mystical")
