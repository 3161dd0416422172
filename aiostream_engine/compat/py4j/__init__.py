"""What PySpark programs import of ``py4j``: the names of its exceptions. There is no JVM to talk to."""
