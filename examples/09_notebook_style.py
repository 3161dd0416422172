"""A notebook session: `await` at top level, cell by cell, in a loop that is already running.

    python examples/09_notebook_style.py

You see each cell and what it prints, as in a notebook. Nothing of the engine is special here: it
never starts a loop of its own, so it works wherever there is one. The cells below are compiled as
IPython and `python -m asyncio` do it; copy them into a notebook as they are.
"""

import ast
import asyncio
import inspect

CELLS = """
# %%
import aiostream_engine as ase

ssc = ase.StreamingContext(interval=0.2, master="local[2]")
squares = ssc.rate_stream(100, records_max=50).map(lambda n: n * n)
batches = squares.batches()
await ssc.start()

# %%
# Look at some batches by hand: the stream waits while we do.
seen = []
async for batch in batches:
    seen += await batch.collect()
    if len(seen) == 50:
        break
print(len(seen), "squares, the last one is", seen[-1])

# %%
figures = ssc.statistics()
print(f"{figures.batches_failed} batches failed, the queue is {figures.queue_fill:.0%} full")

# %%
# A whole computation of its own on the same workers.
print("sum of cubes:", await ssc.engine.range(100).map(lambda n: n ** 3).sum())

# %%
await ssc.stop()
print(ssc.state.value)
"""


async def main() -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(CELLS.split("# %%\n")[1:], 1):
        print(f"In [{number}]:", cell.strip().replace("\n", f"\n{'...:':>8} "))
        code = compile(cell, f"<cell {number}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, namespace)
        if inspect.isawaitable(result):
            await result
        print()


if __name__ == "__main__":
    asyncio.run(main())
