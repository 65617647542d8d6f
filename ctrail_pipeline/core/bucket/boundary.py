"""The boundary around code of others: what it raises for a bucket becomes that bucket's problem.

botocore, its plug-ins and Rust raise more than they declare: a KeyError for an odd answer, a panic
that Python takes for no Exception. Without a boundary such an error would end a run over all
trails. Not here: what errors mean that are known (`s3_errors`, `credential_errors`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Final

from ctrail_pipeline.core.exceptions import CtrailError, StoreError
from ctrail_pipeline.core.settings import BucketAccess

_OURS: Final = f"{Path(__file__).parents[2]}/"
_RUST: Final = "pyo3_runtime"
"""The module of PanicException, which derives from BaseException."""


@contextmanager
def boundary(access: BucketAccess) -> Iterator[None]:
    """Raise StoreError for what code of others raises. Our own mistakes pass, and end the run."""
    try:
        yield
    except BaseException as error:
        if not is_of_others(error):
            raise
        frame, line = list(walk_tb(error.__traceback__))[-1]
        client = "obstore" if type(error).__module__ == _RUST else "boto3"
        # The error's text may hold credentials: http.client quotes a whole header.
        raise StoreError(
            f"{access.title}: {client} failed with {type(error).__name__}"
            f" ({Path(_file_of(frame)).name}:{line}): check its options, the AWS_*"
            " variables and the AWS configuration files"
        ) from error


def is_of_others(error: BaseException) -> bool:
    """Whether an error was raised in code of others, and neither by us nor to stop the program."""
    if type(error).__module__ == _RUST:
        return True
    if not isinstance(error, Exception) or isinstance(error, (CtrailError, MemoryError)):
        return False
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return not _file_of(frames[-1]).startswith(_OURS)


def _file_of(frame: FrameType) -> str:
    return frame.f_code.co_filename
