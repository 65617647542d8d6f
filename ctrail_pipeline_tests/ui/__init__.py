"""Dagster's real UI, driven in a real browser. Not part of `make test`: `make test-ui`."""
