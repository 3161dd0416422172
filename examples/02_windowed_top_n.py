"""The most frequent words of the last two seconds, told every second.

    python examples/02_windowed_top_n.py

You see one line for each window. At first "ask" leads, then "answer" overtakes it, and in the end
"ask" is gone: its last count has left the window, and `filter_function` dropped the key.

With the inverse function (`operator.sub`) a window costs only the batches that enter and leave
it, however long it is.
"""

import asyncio
import operator

import aiostream_engine as ase


def is_left(pair: tuple[str, int]) -> bool:
    return pair[1] > 0


async def show(rdd: ase.RDD[tuple[str, int]], time: ase.BatchTime) -> None:
    top = await rdd.top(3, key=lambda pair: pair[1])
    print(f"{time.datetime:%H:%M:%S}", " ".join(f"{word}={count}" for word, count in top) or "(nothing)")


async def serve_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for word in ["ask"] * 15 + ["answer"] * 45:
        writer.write(f"{word} {word} well\n".encode())
        await asyncio.sleep(0.1)
    writer.close()


async def main() -> None:
    async with await asyncio.start_server(serve_words, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with ase.StreamingContext(interval=0.5, master="local[2]") as ssc:
            lines = ssc.socket_text_stream(host, port, finish_at_eof=True)
            pairs = lines.flat_map(str.split).map(lambda word: (word, 1))
            counts = pairs.reduce_by_key_and_window(
                operator.add, operator.sub, window_s=2, slide_s=1, filter_function=is_left
            )
            counts.foreach_rdd(show)
            await ssc.run()


if __name__ == "__main__":
    asyncio.run(main())
