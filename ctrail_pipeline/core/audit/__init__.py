"""Is everything here, as it was written? Buckets, ledger, output and digests are compared."""
