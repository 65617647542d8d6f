"""Where in the configuration file something stands, for the messages that refuse it."""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from ctrail_pipeline.core.exceptions import ConfigurationError


@dataclass(frozen=True)
class ConfigLocation:
    """Where in which file something stands, for messages: `trails[1].bucket`."""

    file: str
    path: str = ""

    def key(self, name: str) -> "ConfigLocation":
        """Return the location of a key of the object at this location."""
        name = name if name.isidentifier() else shown(name)
        return ConfigLocation(self.file, f"{self.path}.{name}" if self.path else name)

    def item(self, index: int) -> "ConfigLocation":
        """Return the location of an item of the list at this location."""
        return ConfigLocation(self.file, f"{self.path}[{index}]")

    def refuse(self, problem: str) -> NoReturn:
        """Raise ConfigurationError with file, key and problem."""
        raise ConfigurationError(": ".join(filter(None, (self.file, self.path, problem))))


def shown(value: Any) -> str:
    """A value for a message: short, printable, without what stands before the @ of a URL."""
    text = re.sub(r"//[^/\s]*@", "//…@", json.dumps(value, ensure_ascii=False))
    text = text if len(text) <= 80 else f"{text[:80]}…"
    return text.encode(errors="backslashreplace").decode()
