"""Which log files are new: finding source prefixes, selecting, listing, and looks between runs."""
