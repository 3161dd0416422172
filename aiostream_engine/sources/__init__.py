"""Where records come from: contracts by class, one connector a file.

====================== ================================ ============ ===============================
module                 class                            kind         records
====================== ================================ ============ ===============================
``socket_text``        ``SocketTextSource``             receiver     lines from a TCP server
``socket_server``      ``SocketServerSource``           receiver     lines from many TCP senders
``socket_frames``      ``SocketFramesSource``           receiver     frames from a TCP server
``files``              ``FileSource``                   replayable   the new files of a directory
``queue``              ``QueueSource``                  ephemeral    ready batches, fed by hand
``custom``             ``CustomReceiverSource``         receiver     a user's generator or class
``actor``              ``ActorSource``, ``ActorClient`` receiver     messages to a mailbox
``generators``         ``RateSource``                   ephemeral    numbered records at a pace
``kafka.source``       ``KafkaSource``                  replayable   records of Kafka topics
``generators``         ``GeneratorSource``              ephemeral    any iterable
====================== ================================ ============ ===============================

What they share: ``base`` (the contract), ``receiver`` (supervision, bounds, rate), ``object_source``
(records that are Python objects) and ``socket_connection`` (records that are bytes). Nothing is
imported here: a program pays for the connectors that it uses.
"""
