"""How one partition is computed: pure, synchronous, importable by a worker at little cost."""
