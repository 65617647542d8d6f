"""Tests of the sample bucket."""
