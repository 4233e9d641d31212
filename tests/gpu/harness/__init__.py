"""The runner behind tests/gpu/run: which cases there are, how one is run, what its output means, what the table shows."""
