"""Follow a directory: each file that appears is read once, and the errors in it are written out.

    python examples/05_directory_of_files.py

You see one line for each batch that had new files, with their names; then the messages that the
sink wrote as JSON lines. A file is written under a hidden name and renamed, so it is never read half.

The files are read in the workers. The sink names its files by batch and partition, so that a
batch that runs again overwrites its own files.
"""

import asyncio
import json
import tempfile
from pathlib import Path

import aiostream_engine as ase
from aiostream_engine.observe.events import BatchCompleted, Event
from aiostream_engine.sinks.files import JsonLinesFileSink, read_committed


def parse(line: str) -> dict[str, str]:
    level, _, message = line.partition(" ")
    return {"level": level, "message": message}


async def write_logs(directory: Path) -> None:
    for number in range(3):
        await asyncio.to_thread(write_log, directory, number)
        await asyncio.sleep(0.3)


def write_log(directory: Path, number: int) -> None:
    text = "".join(f"{'ERROR' if n % 4 == 0 else 'INFO'} event {number}-{n}\n" for n in range(8))
    unfinished = directory / f".log-{number}.txt"  # names that begin with a dot are not looked at
    unfinished.write_text(text)
    unfinished.rename(directory / f"log-{number}.txt")


def report(event: Event) -> None:
    if isinstance(event, BatchCompleted) and (names := event.batch.inputs[0].metadata.get("files")):
        print("batch read", ", ".join(Path(name).name for name in names))


async def main() -> None:
    with tempfile.TemporaryDirectory() as logs, tempfile.TemporaryDirectory() as errors:
        async with ase.StreamingContext(interval=0.2, master="local[2]") as ssc:
            records = ssc.text_file_stream(logs).map(parse)
            records.filter(lambda record: record["level"] == "ERROR").to(JsonLinesFileSink(errors))
            ssc.add_listener(report)
            await ssc.start()
            await write_logs(Path(logs))
            await ssc.stop()  # what is in the directory by now is still read
        lines = [line for path in read_committed(errors) for line in path.read_text().splitlines()]
        for line in lines:
            print(json.loads(line)["message"])


if __name__ == "__main__":
    asyncio.run(main())
