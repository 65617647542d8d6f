"""Tests of the configuration file and of what writes one."""
