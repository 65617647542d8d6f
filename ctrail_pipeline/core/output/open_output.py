"""Choosing what keeps the output: local folders, or a bucket."""

from ctrail_pipeline.core.settings import Settings

from .interface import Output
from .local.local_output import LocalOutput


def open_output(settings: Settings) -> Output:
    """Return the output that is configured. Nothing is made, read or asked yet."""
    if settings.output is None:
        return LocalOutput.of(settings)
    # Imported here: an output in local folders needs no client of a bucket.
    from .bucket.bucket_output import BucketOutput

    return BucketOutput(settings.output, settings)
