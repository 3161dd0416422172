"""Where results go: contracts by class, one connector a file."""
