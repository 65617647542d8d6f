"""The text of a configuration file, and the JSON in it, which may have `//` comments.

A file that cannot be read or is no JSON is a ConfigurationError, which names the file and the line.
Not here: what the keys mean (`keys`).
"""

import json
import re
import time
from pathlib import Path
from typing import Any, Final, NoReturn

from .location import ConfigLocation

# A string, or a comment. Strings are matched since a URL in a string has `//`, too.
_STRING_OR_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*')
_TRIES_IF_EMPTY: Final = 5
"""How often an empty file is read again."""
_PAUSE_SECONDS: Final = 0.1


class JsonObject(dict[str, Any]):
    """A JSON object that remembers which keys were given twice.

    A plain `dict` keeps the last value silently.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.repeated = [key for key in self if keys.count(key) > 1]


def read_text(top: ConfigLocation, source: Path) -> str:
    """Return the text of the file. Raises ConfigurationError if it cannot be read.

    Whoever saves a file may empty it first and write it then: an empty file is read again.
    """
    try:
        text = source.read_text(encoding="utf-8-sig")
        for _ in range(_TRIES_IF_EMPTY):
            if text.strip():
                break
            time.sleep(_PAUSE_SECONDS)
            text = source.read_text(encoding="utf-8-sig")
        return text
    except FileNotFoundError:
        top.refuse("is not there; write it, or correct CTRAIL_CONFIG")
    except OSError as error:
        top.refuse(f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        top.refuse(f"is not UTF-8 at byte {error.start}")


def parse(top: ConfigLocation, text: str) -> Any:
    """Return the JSON value of a text. Raises ConfigurationError if it is none."""

    def no_constant(name: str) -> NoReturn:
        top.refuse(f"{name} is not a JSON number")

    bare = _STRING_OR_COMMENT.sub(lambda match: match[1] or "", text)
    try:
        return json.loads(bare, object_pairs_hook=JsonObject, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        top.refuse(f"is not valid JSON: line {error.lineno} column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 levels
        top.refuse(f"is not a configuration: {error}")
