"""The synthetic buckets of the demo, the tests and the benchmarks."""
