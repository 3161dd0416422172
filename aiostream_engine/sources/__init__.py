"""Where records come from: contracts by class, one connector a file."""
