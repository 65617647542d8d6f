"""Every error that this project raises on purpose, by the person who has to act.

CtrailError
├── ConfigurationError   the author of the configuration or of the run config
├── LedgerError          the operator of the machine: the ledger cannot be trusted or opened
├── OutputError          the operator of the machine, or the owner of the output's bucket
├── WorkersFailed        the operator of the machine: worker processes die
└── StoreError           the owner of the bucket, or nobody (the failure may pass)
    ├── ObjectGone       the object is no longer there
    ├── ObjectChanged    the object's etag is not the listed one
    ├── ObjectArchived   the object is in Glacier: restore it
    ├── AccessDenied     a permission is missing
    └── StoreUnavailable throttling, network, time-outs: several tries failed, so a later run tries
        └── CredentialsError  expired, or not to be had: no request can succeed now

Messages say what was wrong, where, and what to do. They never hold event content or credentials.
"""


class CtrailError(Exception):
    """The base of all errors that this project raises on purpose."""


class ConfigurationError(CtrailError):
    """A configuration that cannot be right. It is raised before any work, and names the key."""


class LedgerError(CtrailError):
    """The ledger is missing, foreign, too old, too new, damaged or locked."""


class OutputError(CtrailError):
    """Output could not be written: disk full, folder not writable, a permission missing."""


class WorkersFailed(CtrailError):
    """Worker processes end again and again before they have done any work."""


class StoreError(CtrailError):
    """A bucket could not be read."""


class ObjectGone(StoreError):
    """The object was listed or is known, and is no longer there."""


class ObjectChanged(StoreError):
    """The object's etag is not the listed one: the object was written again."""


class ObjectArchived(StoreError):
    """The object's storage class does not allow reading before the object is restored."""


class AccessDenied(StoreError):
    """The credentials lack a permission; the message names it."""


class StoreUnavailable(StoreError):
    """Throttling, a time-out, a lost connection, a body cut short: several tries failed."""


class CredentialsError(StoreUnavailable):
    """The credentials expired or cannot be obtained. This says nothing about any single object."""
