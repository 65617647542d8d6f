"""From the bytes of a log file to its records: decompression, splitting, damage, identities."""
