"""Records of classes that the user's script defines cross processes like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from aiostream_engine.blocks.pickling import dumps

SCRIPT = """
import asyncio, operator
from dataclasses import dataclass
import aiostream_engine as ase

@dataclass(frozen=True)
class Order:
    user: str
    amount: int

async def main():
    async with ase.EngineContext("local[2]") as engine:
        orders = engine.parallelize([Order("a", 1), Order("b", 2), Order("a", 1)] * 4, 4)
        counts = await orders.map(lambda o: (o, 1)).reduce_by_key(operator.add).collect_as_map()
        print(counts == {Order("a", 1): 8, Order("b", 2): 4})
        doubled = await orders.map(lambda o: Order(o.user, o.amount * 2)).collect()
        print(all(type(order) is Order for order in doubled), sum(o.amount for o in doubled))

asyncio.run(main())
"""


def test_a_dataclass_of_the_script_can_be_record_key_and_result(tmp_path: Path) -> None:
    script = tmp_path / "orders.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split("\n") == ["True", "True 32", ""], done.stderr


def test_plain_values_take_the_plain_way() -> None:
    payload = dumps([1, "a", (2.0, None)])
    assert b"cloudpickle" not in payload
