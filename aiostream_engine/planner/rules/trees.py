"""Walk task trees and build changed ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...operators.structure import Concat, Multi, Partitioned, Record, StateScan, Structure

__all__ = ["rewritten"]


def rewritten(node: Structure, change: Callable[[Structure], Structure]) -> Structure:
    """The tree with ``change`` applied to each node, children first; what is unchanged stays as it is."""
    match node:
        case Record(child=child) | Partitioned(child=child):
            new = rewritten(child, change)
            node = node if new is child else replace(node, child=new)
        case Concat(children=children) | Multi(children=children) | StateScan(children=children):
            inner = tuple(rewritten(child, change) for child in children)
            same = all(a is b for a, b in zip(inner, children, strict=True))
            node = node if same else replace(node, children=inner)
    return change(node)
