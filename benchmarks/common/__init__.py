"""What all benchmarks share: data, running contenders side by side, tables and records."""
