"""Tests of `core/keys/`."""
