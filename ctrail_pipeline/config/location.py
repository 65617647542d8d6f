"""A location in the configuration file, for the messages that refuse what stands there."""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from ctrail_pipeline.core.exceptions import ConfigurationError


@dataclass(frozen=True)
class ConfigLocation:
    """A location in a file, such as `trails[1].bucket`, for messages."""

    file: str
    path: str = ""

    def key(self, name: str) -> "ConfigLocation":
        """Return the location of a key of the object at this location."""
        name = name if name.isidentifier() else quoted(name)
        return ConfigLocation(self.file, f"{self.path}.{name}" if self.path else name)

    def item(self, index: int) -> "ConfigLocation":
        """Return the location of an item of the list at this location."""
        return ConfigLocation(self.file, f"{self.path}[{index}]")

    def refuse(self, problem: str) -> NoReturn:
        """Raise ConfigurationError with file, key and problem."""
        raise ConfigurationError(": ".join(filter(None, (self.file, self.path, problem))))


def quoted(value: Any) -> str:
    """Return a value for a message: short, printable, without the secrets of a URL.

    What stands before the @ of a URL may be a user name and a password, and so may a parameter.
    """
    text = re.sub(r"//[^/\s]*@", "//…@", json.dumps(value, ensure_ascii=False))
    text = re.sub(r"(password=)[^&\"\s]*", r"\1…", text)
    text = text if len(text) <= 80 else f"{text[:80]}…"
    return text.encode(errors="backslashreplace").decode()
