"""Tests of `core/batch/`."""
