"""Tests of `core/upkeep/`."""
