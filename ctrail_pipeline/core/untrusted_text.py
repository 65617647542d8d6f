"""Text that somebody else may have written, such as a key or an event, for a terminal or a log."""

import json


def printable(text: str) -> str:
    """Return text so that a person may see it: nothing in it moves a cursor or turns a line.

    Whoever writes to a bucket, or chooses a user agent, must not write our log or steer a screen.
    What stands for a character is JSON's escape, so that a line of JSON remains one.
    """
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )
