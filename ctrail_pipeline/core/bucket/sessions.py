"""Sessions of botocore, the engine of boto3, that cost little to open.

Each trail has a session of its own, and each session opens clients. Opened as boto3 does, a session
costs 15 ms of CPU and its first client 200 ms. Nearly all of that is work that sessions can share:
registering botocore's own handlers, and decoding 3.5 MB of JSON. Measured with this module: 1 ms
and 25 ms. What a session finds (profile, credentials, endpoints) is the same.

The module imports botocore (100 ms), so import it where S3 is asked only.

Not here: credentials and roles (`credentials`), and where a bucket is (`endpoint`).
"""

import os
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from botocore.hooks import HierarchicalEmitter
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session
from isal import igzip

from ctrail_pipeline.core.exceptions import StoreError

_LARGE: Final = frozenset({"shapes", "operations", "services"})
"""Names of the objects in botocore's files of which a client needs a few values only."""


def new_session(profile: str | None) -> Session:
    """Open a session with a profile (None: boto3's default chain decides).

    Raises botocore's ProfileNotFound, and ConfigParseError for configuration files that are none.
    """
    session = Session(profile=profile, event_hooks=_handlers(), include_builtin_handlers=False)
    configured = session.get_config_variable("data_path")
    paths = os.path.expandvars(configured).split(os.pathsep) if configured else []
    session.register_component("data_loader", _Data([str(Path(p).expanduser()) for p in paths]))
    return session


@cache
def _handlers() -> HierarchicalEmitter:
    """Botocore's own handlers. Sessions share them, and each client works on a copy."""
    handlers = HierarchicalEmitter()
    Session(event_hooks=handlers)
    return handlers


class _LazyObject(dict[str, Any]):
    """A JSON object whose values are decoded when they are asked for."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, msgspec.Raw):
            value = self[name] = msgspec.json.decode(value)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - that is this method

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]


@cache
def _content(path: str) -> Any:
    """The content of a JSON file of botocore, or None if there is no such file.

    Raises StoreError for a file that cannot be read: users may have files in `~/.aws/models`.
    """
    for suffix, opened in ((".json", open), (".json.gz", igzip.open)):
        try:
            with opened(path + suffix, "rb") as file:
                return _decoded(file.read())
        except FileNotFoundError:
            continue
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(
                f"{path}{suffix} cannot be read as botocore's data ({type(error).__name__}): mend"
                " the file, or remove it"
            ) from error
    return None


def _decoded(text: bytes | msgspec.Raw) -> dict[str, Any]:
    """Decode a JSON object; its large values are objects that decode their own values lazily."""
    content = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return {name: _value(name, raw) for name, raw in content.items()}


def _value(name: str, raw: msgspec.Raw) -> Any:
    if name in _LARGE:
        return _LazyObject(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]))
    if name == "partitions":
        return [_decoded(item) for item in msgspec.json.decode(raw, type=list[msgspec.Raw])]
    return msgspec.json.decode(raw)


class _Files(JSONFileLoader):  # type: ignore[misc]
    def load_file(self, file_path: str) -> Any:
        return _content(file_path)


class _Data(Loader):  # type: ignore[misc]
    """Botocore's data. Each folder counts as a service, without a look at the files in it."""

    FILE_LOADER_CLASS = _Files

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002
        folders = [Path(path) for path in self.search_paths]
        return [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
