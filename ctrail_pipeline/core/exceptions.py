"""Every error this project raises on purpose, by who has to act on it.

CtrailError
├── ConfigurationError   whoever wrote the configuration or the run config
├── LedgerError          whoever runs the machine: the ledger cannot be trusted or opened
├── OutputError          whoever runs the machine: disk full, folder not writable
├── WorkersFailed        whoever runs the machine: worker processes die
├── Interrupted          nobody: the run was asked to stop, and did
└── StoreError           whoever owns the bucket, or nobody (it may pass)
    ├── ObjectGone       the object is no longer there
    ├── ObjectChanged    the object has another etag than the one that was listed
    ├── ObjectArchived   the object is in Glacier: restore it
    ├── AccessDenied     a permission is missing
    └── StoreUnavailable throttling, network, time-outs: it was retried, a later run tries again
        └── CredentialsError  they expired, or none can be obtained: no request can succeed now

Messages say what was wrong, where, and what to do; they never hold event content or credentials.
"""


class CtrailError(Exception):
    """Anything that this project raises on purpose."""


class ConfigurationError(CtrailError):
    """A configuration that cannot be right; raised before any work, naming the key."""


class LedgerError(CtrailError):
    """The ledger is missing, foreign, too old, too new, damaged or locked."""


class OutputError(CtrailError):
    """Output could not be written: disk full, not writable, wrong device."""


class WorkersFailed(CtrailError):
    """Worker processes end again and again before they have done anything."""


class Interrupted(CtrailError):
    """The run was asked to stop (SIGINT, SIGTERM); what was committed stays, the rest is redone."""


class StoreError(CtrailError):
    """A bucket could not be read."""


class ObjectGone(StoreError):
    """The object was listed (or known) and is no longer there."""


class ObjectChanged(StoreError):
    """The object's etag is no longer the one that was listed: it was written again."""


class ObjectArchived(StoreError):
    """The object's storage class does not allow reading it before it is restored."""


class AccessDenied(StoreError):
    """The credentials lack a permission; the message names it."""


class StoreUnavailable(StoreError):
    """Throttled, timed out, connection lost, body cut short: retried, and it did not pass."""


class CredentialsError(StoreUnavailable):
    """The credentials have expired or cannot be obtained: it says nothing of any one object."""
