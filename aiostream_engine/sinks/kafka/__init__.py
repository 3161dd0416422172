"""Apache Kafka as a sink: batches packed in the workers, sent as they are, in transactions if wanted.

``sink`` has :class:`~.sink.KafkaSink`; ``ready_batch`` hands packed bytes to aiokafka, ``producer``
sends them and tries again what failed, ``topics`` knows how many partitions there are, ``mark`` reads
which batch the last transaction was of.
"""

from .sink import KafkaSink

__all__ = ["KafkaSink"]
