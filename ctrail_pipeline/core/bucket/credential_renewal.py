"""Credentials that expire while a run lasts: others are looked for, once for all failed requests.

If there are none, no request is made for a while: it could not succeed, and each log file would be
recorded as failed. Where credentials come from in the first place is told in `credentials`.
"""

import logging
import threading
import time
from typing import Final

from ctrail_pipeline.core.exceptions import CredentialsError, StoreError
from ctrail_pipeline.core.settings import BucketAccess

from .credentials import Credentials

log = logging.getLogger(__name__)

RENEWAL_SECONDS: Final = 30
"""Seconds without any request after credentials expired and no others were found."""


class RenewableCredentials:
    """The credentials that a bucket is read with now; may be used in several threads."""

    def __init__(self, access: BucketAccess, location: str) -> None:
        """`location`: how messages name the bucket."""
        self._access = access
        self._location = location
        self._renewing = threading.Lock()
        self._unusable: tuple[float, CredentialsError] | None = None
        self.current = Credentials(access)

    def renew(self, expired: Credentials, failure: CredentialsError) -> bool:
        """Look for other credentials than `expired`; whether there are any.

        Everything is looked up anew: the files that `aws sso login` and other programs write, the
        role. This is done once for all requests that failed together, which may be thousands, since
        each look may ask STS.
        """
        with self._renewing:
            if self.current is not expired:
                return True  # another thread has renewed them
            if self.why_unusable() is not None:
                return False  # another thread looked a moment ago
            found = None
            try:
                found = Credentials(self._access)
                is_new = not found.has_key_of(self.current)
            except StoreError as error:
                log.debug("no new credentials: %s", type(error).__name__)
                is_new = False
            if found is None or not is_new:
                self.refuse_for_a_while(failure)
                return False
            log.info("%s: the AWS credentials expired; others were found", self._location)
            self.current = found
            return True

    def refuse_for_a_while(self, failure: CredentialsError) -> None:
        """Let `why_unusable` return this failure for the next RENEWAL_SECONDS."""
        if self.why_unusable() is None:
            self._unusable = (time.monotonic() + RENEWAL_SECONDS, failure)

    def why_unusable(self) -> CredentialsError | None:
        """What is wrong with the credentials, if that is known and not long ago."""
        unusable = self._unusable
        if unusable is None or time.monotonic() >= unusable[0]:
            self._unusable = None
            return None
        return unusable[1]
