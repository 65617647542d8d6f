"""Tests of `core/bucket/`."""
