"""Tests of the output in a bucket."""
