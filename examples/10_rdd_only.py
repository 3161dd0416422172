"""Batch work without a stream: datasets on all cores, with actions that are awaited.

    python examples/10_rdd_only.py

You see the modules of Python's standard library with the most functions, how long the lines of
one are, and a join. The same RDDs are what a stream is made of, one for each batch.

Transformations only describe the work; nothing runs before an action is awaited. Work that is
used twice is kept by `cache()`.
"""

import asyncio
import operator
import os
import re
from pathlib import Path

import aiostream_engine as ase

FUNCTION = re.compile(r"^\s*(?:async )?def (\w+)", re.MULTILINE)


def functions_of(file: tuple[str, str]) -> list[tuple[str, str]]:
    path, text = file
    return [(Path(path).stem, name) for name in FUNCTION.findall(text)]


async def main() -> None:
    library = os.path.dirname(asyncio.__file__)
    async with ase.EngineContext("local[2]") as sc:
        functions = sc.whole_text_files(f"{library}/*.py").flat_map(functions_of).cache()
        print(await functions.count(), "functions in the modules of asyncio")

        per_module = functions.map_values(lambda _: 1).reduce_by_key(operator.add)
        for module, count in await per_module.top(3, key=lambda pair: pair[1]):
            print(f"  {module}: {count}")

        lengths = sc.text_file(f"{library}/tasks.py").map(len)
        figures = await lengths.stats()
        print(f"lines of tasks.py: mean length {figures.mean:.0f}, longest {figures.max}")

        prices = sc.parallelize([("tea", 3), ("cake", 5), ("milk", 1)])
        orders = sc.parallelize([("ann", "tea"), ("bob", "cake"), ("ann", "cake")])
        bills = orders.map(lambda order: (order[1], order[0])).join(prices)
        totals = bills.map(lambda row: row[1]).reduce_by_key(operator.add)
        for guest, total in sorted(await totals.collect()):
            print(f"  {guest} pays {total}")

        async for number in sc.range(1_000_000).filter(lambda n: n % 250_000 == 0).iterate():
            print("  every 250000th:", number)


if __name__ == "__main__":
    asyncio.run(main())
