"""Apache Kafka as a source: the direct model, without a receiver (rows KAF-1 … KAF-14).

``source`` has the source; ``lane`` says how bytes get here, ``raw_lane`` by fetch requests whose
bytes pass through untouched, ``client_lane`` by the public consumer of aiokafka. ``wire`` has
the requests that aiokafka does not know. ``partition_queue`` holds what was fetched ahead.
"""
