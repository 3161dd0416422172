"""Look up every record in a service: many calls at a time, retried, and the hopeless put aside.

    python examples/04_async_enrichment.py

You see 200 orders with the country of their customer, in the order of the records although the
answers come in any order; then how busy the one shared client was; then the orders whose customer
the service does not know, as dead letters. Each 10th call fails once and is tried again.

The client lives on the event loop of this program, as an HTTP session or a database pool would:
`map_async` runs there, not in the workers, unless told otherwise.
"""

import asyncio
import random

import aiostream_engine as ase


class CountryService:
    """Stands for any client with a connection pool."""

    def __init__(self) -> None:
        self.calls = self.busy = self.busy_max = 0

    async def country_of(self, customer: int) -> str:
        self.calls += 1
        self.busy += 1
        self.busy_max = max(self.busy_max, self.busy)
        fails = self.calls % 10 == 0
        try:
            await asyncio.sleep(random.uniform(0.005, 0.02))
        finally:
            self.busy -= 1
        if customer % 50 == 13:
            raise LookupError(f"no customer {customer}")
        if fails:
            raise ConnectionError("try again")
        return ("FR", "IT", "PL")[customer % 3]


async def main() -> None:
    service = CountryService()

    async def with_country(order: int) -> tuple[int, str]:
        return order, await service.country_of(order)

    async with ase.StreamingContext(interval=0.2, master="local[2]") as ssc:
        orders = ssc.queue_stream([range(100), range(100, 200)], finish_when_empty=True)
        known = orders.map_async(
            with_country,
            name="country",
            concurrency=50,
            timeout_s=1.0,
            retry=ase.RetryPolicy(attempts_max=4, wait_s=0.01),
            on_error="dead-letter",
        )
        known.foreach_rdd(show_known)
        known.dead_letters().foreach_rdd(show_unknown)
        await ssc.run()
    print(f"{service.busy_max} calls at a time at most")


async def show_known(rdd: ase.RDD[tuple[int, str]]) -> None:
    rows = await rdd.collect()
    in_order = "in order" if rows == sorted(rows) else "out of order"
    print(f"{len(rows)} orders {in_order}: {rows[0]} ... {rows[-1]}")


async def show_unknown(rdd: ase.RDD[ase.DeadLetter]) -> None:
    for letter in await rdd.collect():
        print(f"dead letter: order {letter.record}: {letter.message}, after {letter.attempts} tries")


if __name__ == "__main__":
    asyncio.run(main())
