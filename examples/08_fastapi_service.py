"""A web service with the engine in its lifespan: one process, one event loop, no broker.

    python examples/08_fastapi_service.py              # asks itself a few questions, and ends
    uvicorn --app-dir examples 08_fastapi_service:app  # or serve it

You see: events posted to the service, then the live counts that it answers with.

The engine runs in the loop of the web server. The handler of POST hands events to the stream and
waits when its queue is full; the handler of GET reads the newest result, which an output keeps in
`app.state`. Written for Starlette; with FastAPI only the class and the routes read differently.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import aiostream_engine as ase
from aiostream_engine.sources.actor import ActorSource


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.counts = {}
    mailbox = ActorSource()
    app.state.mailbox = mailbox.ref

    async def keep(rdd: ase.RDD[tuple[str, int]]) -> None:
        app.state.counts = await rdd.collect_as_map()

    async with ase.StreamingContext(interval=0.1, master="local[2]") as ssc:
        pages = ssc.actor_stream(mailbox).map(lambda event: (event["page"], 1))
        pages.update_state_by_key(lambda new, old: (old or 0) + sum(new)).foreach_rdd(keep)
        app.state.stream = ssc
        await ssc.start()
        yield
        await ssc.stop()


async def post_event(request: Request) -> JSONResponse:
    await request.app.state.mailbox.send(await request.json())
    return JSONResponse({"accepted": True}, status_code=202)


async def get_counts(request: Request) -> JSONResponse:
    return JSONResponse(request.app.state.counts)


async def get_health(request: Request) -> JSONResponse:
    stream = request.app.state.stream
    figures = stream.statistics()
    body = {"state": stream.state.value, "batches": figures.batches_completed, "queue": figures.queue_fill}
    return JSONResponse(body, status_code=200 if stream.state is ase.ContextState.ACTIVE else 503)


app = Starlette(
    routes=[
        Route("/events", post_event, methods=["POST"]),
        Route("/counts", get_counts),
        Route("/health", get_health),
    ],
    lifespan=lifespan,
)


async def main() -> None:
    transport = httpx.ASGITransport(app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        for page in ["/home", "/cart", "/home", "/pay", "/home"]:
            answer = await client.post("/events", json={"page": page})
            answer.raise_for_status()
        counts: dict[str, int] = {}
        async with asyncio.timeout(20):
            while sum(counts.values()) < 5:
                counts = (await client.get("/counts")).json()
                await asyncio.sleep(0.05)
        for page, count in sorted(counts.items()):
            print(page, count)
        print("health:", (await client.get("/health")).json()["state"])


if __name__ == "__main__":
    asyncio.run(main())
