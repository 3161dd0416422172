"""The keyed state that a worker holds between tasks, and how it comes to hold a version."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from ..blocks.storage import BlockWriter
from ..state.store import MemoryStore
from ..types import BlockRef
from .base import StateDirective
from .task import StateMissing, TaskEnvironment

__all__ = ["block_on_disk", "held_store"]

# The driver holds what is inline, in chains of many blocks: it must not hold the state so.
_INLINE_BYTES_MAX = 4096


def held_store(
    environment: TaskEnvironment, directive: StateDirective, step: str, *, mapped: bool
) -> MemoryStore:
    """The store of a partition at the version that the task builds on, or at the one that it is to give.

    mapped: what the step yields is not in the state, so a batch that is run again must be undone first.
    Raises StateMissing when it has to be sent, and StorageError when it is lost with a disk that failed.
    """
    name = (directive.state_id, directive.partition)
    store: MemoryStore | None = environment.states.get(name)
    broken = None if store is None else store.failure
    if store is not None and broken is None:
        if store.version == directive.base:
            return store
        # With a changelog the task failed behind the state: its block is lost, and what it changed is to be
        # in one. It cannot be undone where functions may change values in place, but it can be loaded.
        is_lost = directive.changelog and not mapped
        if store.version == directive.target and not mapped and not is_lost:
            return store
        if store.can_roll_back_to(directive.base) and not is_lost:
            store.rollback()
            return store
    if broken is not None and directive.restore == ():
        raise broken  # there is no chain, so an empty state would pass for what is lost
    if directive.restore is None and directive.base > 0:
        raise StateMissing
    if store is not None:
        environment.states.pop(name).close()  # its room is free before the next one takes some
    new = _new_store(environment, directive, step)
    if directive.restore is not None:
        new.load(directive.restore)
        new.version = directive.base
    environment.states[name] = new
    return new


def _new_store(environment: TaskEnvironment, directive: StateDirective, step: str) -> MemoryStore:
    if not directive.memory_bytes_max:
        return MemoryStore()
    from ..state.budget import Budget
    from ..state.disk_store import DiskStore

    owner = directive.state_id if directive.own_bound else ""
    budget = environment.state_budgets.get(owner)
    if budget is None:
        budget = environment.state_budgets[owner] = Budget(directive.memory_bytes_max)
    return DiskStore(environment.writer.spill_directory, budget, step)


def block_on_disk(writer: BlockWriter, parts: Iterable[bytes]) -> BlockRef:
    """A block of parts that are written as they come; a tiny one travels inside of its reference."""
    first: list[bytes] = []
    size, rest = 0, iter(parts)
    for part in rest:
        first.append(part)
        size += len(part)
        if size > _INLINE_BYTES_MAX:
            path, sizes = writer.write_on_disk(itertools.chain(first, rest))
            return BlockRef("pickle", None, path, 0, sum(sizes), -1)
    return BlockRef("pickle", b"".join(first), records=-1)
