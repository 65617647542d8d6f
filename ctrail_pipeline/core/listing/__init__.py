"""Which log files are new: discovery of source prefixes, selection, listing, looks."""
