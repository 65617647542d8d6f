"""Choosing what keeps the output: a local folder is all that there is."""

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.settings import Settings

from .interface import Output
from .local.local_output import LocalOutput


def open_output(settings: Settings) -> Output:
    """Return the output that is configured. Nothing is made or read yet.

    Raises ConfigurationError for an output in a bucket.
    """
    if settings.output is not None:
        raise ConfigurationError(
            f"events_dir: {settings.output.events} lies in a bucket, which cannot be written yet:"
            " name a folder"
        )
    return LocalOutput.of(settings)
