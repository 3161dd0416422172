"""The test kit: time, sources, sinks and faults under the control of a test.

Names are imported at first use, so that a worker can meet a crash point without loading asyncio.
See ``docs/testing.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exports import lazy_exports

if TYPE_CHECKING:
    from ..durable.crash import crash_environment as crash_environment
    from ..durable.crash import crash_point as crash_point
    from .canary import LoopCanary as LoopCanary
    from .canary import LoopDelay as LoopDelay
    from .clock import ManualClock as ManualClock
    from .fault_files import FaultFiles as FaultFiles
    from .fault_files import use_files as use_files
    from .leaks import LeakCheck as LeakCheck
    from .leaks import LeakError as LeakError
    from .run import run_batches as run_batches
    from .sink import Delivery as Delivery
    from .sink import NumberedRecord as NumberedRecord
    from .sink import VerifyingSink as VerifyingSink
    from .sink import numbered_records as numbered_records
    from .source import ABORT as ABORT
    from .source import EOF as EOF
    from .source import PAUSE as PAUSE
    from .source import RAISE as RAISE
    from .source import ScriptedReplayableSource as ScriptedReplayableSource
    from .source import ScriptedSource as ScriptedSource

_ROOM_OF = {
    "ABORT": "source",
    "EOF": "source",
    "PAUSE": "source",
    "RAISE": "source",
    "Delivery": "sink",
    "LeakCheck": "leaks",
    "LeakError": "leaks",
    "FaultFiles": "fault_files",
    "LoopCanary": "canary",
    "LoopDelay": "canary",
    "ManualClock": "clock",
    "NumberedRecord": "sink",
    "ScriptedReplayableSource": "source",
    "ScriptedSource": "source",
    "VerifyingSink": "sink",
    "crash_environment": ".durable.crash",
    "crash_point": ".durable.crash",
    "numbered_records": "sink",
    "run_batches": "run",
    "use_files": "fault_files",
}

__all__ = sorted(_ROOM_OF)
__getattr__, __dir__ = lazy_exports(globals(), _ROOM_OF)
