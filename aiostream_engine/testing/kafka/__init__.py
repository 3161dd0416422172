"""What :mod:`..kafka_broker` is made of: the artifact, the certificates and one broker process."""
