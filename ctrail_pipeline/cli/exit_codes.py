"""What the exit code of `ctrail` says."""

from typing import Final

EXIT_OK: Final = 0
"""Everything that was asked for was done."""
EXIT_FAILED: Final = 1
"""Something failed; the output names it."""
EXIT_CONFIGURATION: Final = 2
"""The configuration or the call cannot be right."""
