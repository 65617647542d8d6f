"""Benchmarks: the cost of a sync beside other programs that do a part of it (`make bench`).

Each module says at its top what it measures. Nothing here is imported by the pipeline, and nothing
in the pipeline exists for it.
"""
