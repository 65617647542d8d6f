"""Tests of `core/output/`."""
