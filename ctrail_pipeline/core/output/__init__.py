"""Where lines go: files of events, quarantine and Parquet, staged durably and published once."""
