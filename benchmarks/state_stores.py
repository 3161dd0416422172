"""S1: embedded stores for state that is larger than memory, on the work of a stateful step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender

MIB = 1024 * 1024


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    keys = options.size(1_000_000, 20_000)
    given = {
        "keys": keys,
        "touched": keys // 50,
        "batches": 5 if options.quick else 20,
        "value_bytes": 300,
        "cache_bytes": 32 * MIB,
    }
    stores = {
        "sqlite": "SQLite, unnamed file, no journal",
        "sqlite-wal": "SQLite, WAL, WITHOUT ROWID",
        "lmdb": "LMDB, no sync",
        "rocksdb": "RocksDB (rocksdict), no WAL",
        "dict": "dict in memory",
    }
    return [
        Contender(
            store,
            name,
            "peers/stores/state_store.py",
            "stores",
            "floor" if store == "dict" else "engine" if store == "sqlite" else "peer",
            {**given, "store": store},
            on_disk=True,
        )
        for store, name in stores.items()
    ], None


BENCHMARK = Benchmark(
    "S1",
    "1 M keys of state with values of 300 bytes, 2 % touched by each batch",
    "load: all keys once, in groups. touch: for each key of a batch a get, a put and a new place in the "
    "order of touch. scan: all pairs, unpickled. idle: finding the longest idle keys, a hundredth of "
    "what a batch touches. snapshot: all pairs to a file. Values are pickled, keys are found by their hash. "
    "Memory is what the process gained, without pages of files, which the kernel takes back; the cache of "
    "each store is bounded by 32 MiB. Quick: 20 000 keys.",
    (
        Metric("touches_per_s", "touch", "keys/s", more_is_better=True),
        Metric("load_per_s", "load", "keys/s", more_is_better=True),
        Metric("scan_per_s", "scan", "keys/s", more_is_better=True),
        Metric("idle_ms", "idle", "ms"),
        Metric("snapshot_s", "snapshot", "s"),
        Metric("memory_mib", "memory", "MiB"),
        Metric("mapped_mib", "mapped pages", "MiB"),
        Metric("disk_mib", "disk", "MiB"),
    ),
    (Target("touch, times the best of the others", "sqlite", "touches_per_s", 0.5, against="lmdb"),),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
