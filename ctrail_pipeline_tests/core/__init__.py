"""Tests of the core, by its rooms."""
