"""Text that somebody else may have written, such as a key or an event, for a terminal."""


def shown(text: str) -> str:
    """Text from a bucket as a person may see it: nothing in it moves a cursor or turns a line."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
