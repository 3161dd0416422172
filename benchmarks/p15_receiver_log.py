"""P15: the write-ahead log of receivers beside plain writing and syncing of the same blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender

SIZES = {"64k": 64 * 1024, "1m": 1024 * 1024, "4m": 4 * 1024 * 1024}
LABELS = {"64k": "64 KiB", "1m": "1 MiB", "4m": "4 MiB"}
RECEIVERS = (1, 8)


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    contenders = []
    for key, size in SIZES.items():
        total = (8 if options.quick else 192) * 1024 * 1024
        parameters = {"bytes": size, "blocks": min(total // size, 1024)}
        contenders.append(
            Contender(
                f"floor-{key}",
                f"floor: write and sync, {LABELS[key]}",
                "floors/write_and_sync.py",
                kind="floor",
                parameters=parameters,
                on_disk=True,
            )
        )
        contenders.extend(_engine(key, receivers, parameters) for receivers in RECEIVERS)
    return contenders, "all there"


def _engine(key: str, receivers: int, parameters: dict[str, Any]) -> Contender:
    return Contender(
        f"log-{key}-{receivers}",
        f"log, {LABELS[key]}, {receivers} receiver{'s' * (receivers > 1)}",
        "engine/receiver_log.py",
        kind="engine",
        parameters={**parameters, "receivers": receivers},
        on_disk=True,
    )


BENCHMARK = Benchmark(
    "P15",
    "write-ahead log of receivers",
    "from the first block until all are durable. Each receiver goes on when its block is durable; several "
    "share syncs. The log makes a checksum and a keyed digest of each block, chains them, and everything is "
    "read back afterwards. The floor writes each block to one file and syncs it, one after the other.",
    (
        Metric("bytes_per_s", "durable", "bytes/s", more_is_better=True),
        Metric("blocks_per_sync", "blocks a sync", "blocks", more_is_better=True),
        Metric("processor_s_per_gb", "processor time", "s/GB"),
    ),
    tuple(
        Target(
            f"{LABELS[key]}, {receivers} at once: share of write and sync",
            f"log-{key}-{receivers}",
            "bytes_per_s",
            0.6,
            against=f"floor-{key}",
        )
        for key in SIZES
        for receivers in RECEIVERS
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
