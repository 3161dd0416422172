"""The command line: one command a file, assembled in :mod:`.main`."""
