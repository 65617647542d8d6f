"""Tests of `core/listing/`."""
