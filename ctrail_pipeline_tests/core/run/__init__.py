"""Tests of `core/run/`."""
