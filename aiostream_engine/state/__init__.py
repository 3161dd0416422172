"""Keyed state: pinned where it is used, changed a batch at a time, described by specifications."""
