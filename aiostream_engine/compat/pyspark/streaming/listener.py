"""StreamingListener as PySpark has it, and the objects that it is called with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ....observe import events as ev
from .java_values import JavaMap, JavaObject, JavaTime

__all__ = ["StreamingListener"]

_log = logging.getLogger("aiostream_engine.compat.pyspark")


class StreamingListener:
    """Override what you want to hear (rows LIS-1 … LIS-9, LIS-12).

    The argument has one attribute, such as ``batchInfo``; whatever it leads to may be read as in Python
    (``event.batchInfo.numRecords``) or called as in Java (``event.batchInfo().numRecords()``). Times are
    epoch milliseconds, delays milliseconds, -1 when not known yet. Methods are called one after the
    other, in a thread of their own; what they raise is logged.
    """

    def __init__(self) -> None:
        pass

    def onStreamingStarted(self, streamingStarted: Any) -> None:
        """The stream runs; ``time``."""

    def onReceiverStarted(self, receiverStarted: Any) -> None:
        """A receiver was started; ``receiverInfo``."""

    def onReceiverError(self, receiverError: Any) -> None:
        """A receiver reported an error; ``receiverInfo``."""

    def onReceiverStopped(self, receiverStopped: Any) -> None:
        """A receiver was stopped; ``receiverInfo``."""

    def onBatchSubmitted(self, batchSubmitted: Any) -> None:
        """A batch was cut; ``batchInfo``."""

    def onBatchStarted(self, batchSubmitted: Any) -> None:
        """The first output of a batch starts; ``batchInfo``."""

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """All outputs of a batch are over, also when some failed; ``batchInfo``."""

    def onOutputOperationStarted(self, outputOperationStarted: Any) -> None:
        """An output of a batch starts; ``outputOperationInfo``."""

    def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
        """An output of a batch is over; ``outputOperationInfo``, whose ``failureReason`` is None or text."""


def call_listener(listener: Any, event: ev.Event) -> None:
    """Tell a listener of PySpark's kind of an event of the engine; a method that it lacks is left out."""
    known = _CALLS.get(type(event))
    if known is None:
        return
    name, argument = known
    method = getattr(listener, name, None)
    if method is None:
        return
    try:
        method(argument(event))
    except Exception:
        _log.exception("%s of a streaming listener failed", name)


def _ms(seconds: float | None) -> int:
    return -1 if seconds is None else round(seconds * 1000)


def _or_unset(time: int | None) -> int:
    return -1 if time is None else time


def _batch_info(info: ev.BatchInfo) -> JavaObject:
    return JavaObject(
        "JavaBatchInfo",
        batchTime=JavaTime(info.batch_time),
        submissionTime=_or_unset(info.submission_ms),
        processingStartTime=_or_unset(info.processing_start_ms),
        processingEndTime=_or_unset(info.processing_end_ms),
        schedulingDelay=_ms(info.scheduling_delay_s),
        processingDelay=_ms(info.processing_delay_s),
        totalDelay=_ms(info.total_delay_s),
        numRecords=info.records,
        streamIdToInputInfo=JavaMap(
            # As in Spark, nothing is told of queues.
            {
                item.stream_id: _input_info(item)
                for item in info.inputs
                if not item.name.startswith("queueStream")
            }
        ),
        outputOperationInfos=JavaMap({item.id: _output_info(item) for item in info.outputs}),
    )


def _input_info(info: ev.InputInfo) -> JavaObject:
    metadata: Mapping[str, Any] = {
        "Description" if name == "description" else name: value for name, value in info.metadata.items()
    }
    return JavaObject(
        "JavaStreamInputInfo",
        inputStreamId=info.stream_id,
        numRecords=max(0, info.records),
        metadata=JavaMap(metadata),
        metadataDescription=info.metadata.get("description"),
    )


def _output_info(info: ev.OutputOperationInfo) -> JavaObject:
    return JavaObject(
        "JavaOutputOperationInfo",
        batchTime=JavaTime(info.batch_time),
        id=info.id,
        name=info.name,
        description=info.description,
        startTime=_or_unset(info.start_ms),
        endTime=_or_unset(info.end_ms),
        failureReason=info.failure,
    )


def _receiver_info(info: ev.ReceiverInfo) -> JavaObject:
    error = info.last_error or ""
    return JavaObject(
        "JavaReceiverInfo",
        streamId=info.stream_id,
        name=info.name,
        active=info.active,
        location="driver",
        executorId="driver",
        lastErrorMessage=error.partition("\n")[0],
        lastError=error,
        lastErrorTime=_or_unset(info.last_error_ms),
    )


def _batch_event(name: str) -> Callable[[Any], JavaObject]:
    return lambda event: JavaObject(name, batchInfo=_batch_info(event.batch))


def _receiver_event(name: str) -> Callable[[Any], JavaObject]:
    return lambda event: JavaObject(name, receiverInfo=_receiver_info(event.receiver))


def _output_event(name: str) -> Callable[[Any], JavaObject]:
    return lambda event: JavaObject(name, outputOperationInfo=_output_info(event.output))


_EVENT = "JavaStreamingListener"
_CALLS: dict[type[ev.Event], tuple[str, Callable[[Any], JavaObject]]] = {
    ev.StreamingStarted: (
        "onStreamingStarted",
        lambda event: JavaObject(f"{_EVENT}StreamingStarted", time=event.at_ms),
    ),
    ev.ReceiverStarted: ("onReceiverStarted", _receiver_event(f"{_EVENT}ReceiverStarted")),
    ev.ReceiverError: ("onReceiverError", _receiver_event(f"{_EVENT}ReceiverError")),
    ev.ReceiverStopped: ("onReceiverStopped", _receiver_event(f"{_EVENT}ReceiverStopped")),
    ev.BatchSubmitted: ("onBatchSubmitted", _batch_event(f"{_EVENT}BatchSubmitted")),
    ev.BatchStarted: ("onBatchStarted", _batch_event(f"{_EVENT}BatchStarted")),
    ev.BatchCompleted: ("onBatchCompleted", _batch_event(f"{_EVENT}BatchCompleted")),
    ev.OutputOperationStarted: (
        "onOutputOperationStarted",
        _output_event(f"{_EVENT}OutputOperationStarted"),
    ),
    ev.OutputOperationCompleted: (
        "onOutputOperationCompleted",
        _output_event(f"{_EVENT}OutputOperationCompleted"),
    ),
}
