"""The runner behind tests/gpu/run: which cases there are, how one runs, what its output means, what is shown."""
