"""Where copies of a record meet: the dedup partition.

It is made of the record's own fields only, so that all copies of a record meet in the same one,
whichever trail or log file brought them. The rule never changes: a record that met its copies
elsewhere would be written twice. The folder on disk may follow another rule.
"""


def dedup_partition(account: str | None, region: str | None, hour: str) -> str:
    """Return the dedup partition of a record, from the record's own fields only."""
    return f"{account or '-'}/{region or '-'}/{hour}"


def is_of_events(name: str) -> bool:
    """Whether a dedup partition is one of events: those of quarantine have shorter names."""
    return name.count("/") >= "a/r/YYYY/MM/DD/HH".count("/")
