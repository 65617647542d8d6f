"""Tests of `core/log_file/`."""
