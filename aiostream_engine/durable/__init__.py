"""The only room that knows fsync, rename, locks and checksums."""
