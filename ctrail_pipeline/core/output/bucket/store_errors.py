"""Errors of the bucket -> the errors that the interface of all outputs promises."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EIO, ENOENT

from ctrail_pipeline.core.exceptions import ObjectGone, OutputError, StoreError


@contextmanager
def writing() -> Iterator[None]:
    """Raise OutputError for what the bucket refuses. The message says what to do."""
    try:
        yield
    except StoreError as error:
        raise OutputError(str(error)) from error


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Raise FileNotFoundError for an object that is not there, OSError for any other failure."""
    try:
        yield
    except ObjectGone as error:
        raise FileNotFoundError(ENOENT, "no such object", address) from error
    except StoreError as error:
        raise OSError(EIO, str(error), address) from error
