"""How a stateful step calls its function where an error policy, or a watch, looks at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..operators.structure import ErrorPolicy

__all__ = ["GIVEN_UP", "Guard", "policy_of"]

GIVEN_UP = object()


class Guard(Protocol):
    """Decides what becomes of a call that raises; made by the task that runs the step."""

    def __call__(self, record: Any, call: Callable[[], Any], *, counts: bool = True) -> Any:
        """What ``call`` gives, or GIVEN_UP; raises its error where the policy is to fail.

        record: what is given up: the record of the dead letter.
        call: may be called several times, and must undo what it did before.
        counts: True when the record is one of those of which the circuit breaker takes a share.
        """


def policy_of(spec: Any) -> ErrorPolicy | None:
    """The error policy of a specification, None where it has none.

    A batch of such a step that is run again must be computed again: its dead letters are not in its state.
    """
    policy: ErrorPolicy | None = getattr(spec, "policy", None)
    return policy
