"""Choosing what keeps the output: a local folder is all that there is."""

from ctrail_pipeline.core.settings import Settings

from .interface import Output
from .local.local_output import LocalOutput


def open_output(settings: Settings) -> Output:
    """Return the output that is configured. Nothing is made or read yet."""
    return LocalOutput.of(settings)
