"""TaskContext: what a task may know about itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ...executors.base import Task
from ...executors.task import current_environment

__all__ = ["TaskContext"]


class TaskContext:
    """The running task; as PySpark. Differs: no stage numbers, resources or processor shares."""

    _task: Task

    @classmethod
    def get(cls) -> TaskContext | None:
        """The context of the task that runs here, None in the driver; as PySpark."""
        environment = current_environment()
        if environment is None or environment.task is None:
            return None
        made = cls()
        made._task = environment.task
        return made

    def partitionId(self) -> int:
        """Index of the partition; as PySpark."""
        return self._task.partition

    def attemptNumber(self) -> int:
        """How often the task was tried before; as PySpark."""
        return self._task.attempt - 1

    def taskAttemptId(self) -> int:
        """A number that no other task of the context has; as PySpark."""
        return self._task.id

    def stageId(self) -> int:
        """A number. Differs: always 0, as stages have no numbers here."""
        return 0

    def cpus(self) -> int:
        """Processors of the task. Differs: always 1, as a task has one worker process."""
        return 1

    def cpuAmount(self) -> Decimal:
        """Processors of the task. Differs: always 1, as a task has one worker process."""
        return Decimal(1)

    def resources(self) -> dict[str, Any]:
        """Differs: always empty, as there are no resources such as GPUs."""
        return {}

    def getLocalProperty(self, key: str) -> str | None:
        """A property of the job. Differs: always None, as properties do not travel to workers."""
        return None
