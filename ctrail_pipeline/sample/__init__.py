"""The synthetic bucket of the demo, the tests and the benchmarks."""
