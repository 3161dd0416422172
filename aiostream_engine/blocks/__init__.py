"""The data plane: bytes in shared memory or on disk, and references to them."""
