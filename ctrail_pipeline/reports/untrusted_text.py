"""Text that somebody else may have written, such as a key or an event, for a terminal."""


def printable(text: str) -> str:
    """Return text so that a person may see it: nothing in it moves a cursor or turns a line."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
