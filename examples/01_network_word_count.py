"""Count the words of a TCP text stream, batch by batch. The engine takes ten lines.

    python examples/01_network_word_count.py                        # against a small server of its own
    nc -lk 9999                                                     # or: type your own text here ...
    python examples/01_network_word_count.py --connect 127.0.0.1:9999   # ... and look here

You see one block for each batch of half a second: its time, then (word, count) pairs of that
batch alone. The program ends when the server closes the connection, or after --duration seconds.
"""

import argparse
import asyncio
import operator

import aiostream_engine as ase

TEXT = b"to be or not to be\nthat is the question\n"


async def count_words(host: str, port: int, duration_s: float | None) -> None:
    async with ase.StreamingContext(interval=0.5, master="local[2]") as ssc:
        lines = ssc.socket_text_stream(host, port, finish_at_eof=True)
        words = lines.flat_map(str.split)
        pairs = words.map(lambda word: (word, 1))
        counts = pairs.reduce_by_key(operator.add)
        counts.pprint()
        await ssc.run(duration_s)


async def serve_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(3):
        writer.write(TEXT)
        await writer.drain()
        await asyncio.sleep(0.5)
    writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Count the words of a TCP text stream.")
    parser.add_argument("--connect", metavar="HOST:PORT", help="read from your own server")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="stop after this time")
    options = parser.parse_args()
    if options.connect:
        host, _, port = options.connect.rpartition(":")
        await count_words(host, int(port), options.duration)
        return
    async with await asyncio.start_server(serve_text, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        await count_words(host, port, options.duration)


if __name__ == "__main__":
    asyncio.run(main())
