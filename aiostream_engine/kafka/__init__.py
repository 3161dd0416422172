"""What the Kafka source and the Kafka sink share: settings, serdes, record batches, administration.

Nothing here is imported before a stream uses Kafka; aiokafka comes with ``aiostream-engine[kafka]``.
"""
