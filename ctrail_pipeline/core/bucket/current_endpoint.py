"""The endpoint that a bucket is asked at now. An answer of S3 may name another one.

S3 names the bucket's region where a request was signed for another (301, 400), and sends requests
for a new bucket on to its region for some hours (307). Such a request is made again, and signed
anew, at the endpoint that botocore finds for that region. No request goes to an address because an
answer names it: whoever answers would get the credentials.
"""

import logging
import threading
from typing import Any, Final

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.settings import BucketAccess

from .curl_request import Elsewhere, OtherAnswer
from .endpoint import Endpoint, RegionSource, endpoint_of, region_of_host

log = logging.getLogger(__name__)

_MAY_BE_THE_REGION: Final = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "InvalidToken", "NoSuchBucket", "SignatureDoesNotMatch"}
)
"""S3's answers to a request that should have gone to another partition: each keeps buckets, and
keys of access, of its own."""


class CurrentEndpoint:
    """The endpoint of one bucket; may be used in several threads."""

    def __init__(self, access: BucketAccess, session: Any, known: Endpoint | None = None) -> None:
        """`known`: the endpoint, if another process has found it already."""
        self._access = access
        self._session = session
        self._moving = threading.Lock()
        self.current = known or endpoint_of(access, session)
        self._is_confirmed = known is not None

    def follow(self, asked: Endpoint, elsewhere: Elsewhere | None) -> bool:
        """Whether to ask again: S3 answered that the bucket is in another region than was asked.

        A region that is configured stays, except where S3 sends a request on for some hours.
        """
        if elsewhere is None:
            return False
        with self._moving:
            if self.current is not asked:
                return True  # another thread has moved
            found = self._named_by(asked, elsewhere)
            if found is None:
                return False
            log.info("s3://%s is in %s, and is asked there", self._access.bucket, found.region)
            self.current = found
            return True

    def _named_by(self, asked: Endpoint, elsewhere: Elsewhere) -> Endpoint | None:
        """The endpoint in the region that an answer names, if it is to be asked."""
        is_fixed = asked.region_source is RegionSource.CONFIGURED and not elsewhere.is_temporary
        if is_fixed or asked.region_source is RegionSource.ANSWERED:
            return None
        region = elsewhere.region
        if elsewhere.redirects_to:
            there = region_of_host(elsewhere.redirects_to, self._session)
            region = (region or there) if there and asked.is_at_aws else ""
        if not region or region == asked.region:
            return None
        try:
            found = endpoint_of(self._access, self._session, answered_region=region)
        except StoreError:
            return None  # the answer names no region that there is
        has_left_aws = asked.is_at_aws and found.partition != asked.partition
        return None if has_left_aws else found

    def has_answered(self) -> None:
        """Take note that the bucket has answered: no later failure is due to the region."""
        self._is_confirmed = True

    def noted(self, failure: StoreError) -> StoreError:
        """Return a failure with a note if the guess of a region may be its cause."""
        endpoint, answer = self.current, failure.__cause__
        is_guessed = endpoint.region_source is RegionSource.GUESSED and endpoint.is_at_aws
        code = answer.code if isinstance(answer, OtherAnswer) else ""
        if self._is_confirmed or not is_guessed or code not in _MAY_BE_THE_REGION:
            return failure
        noted = type(failure)(
            f"{failure}; no region is set, so {endpoint.region} was asked: set"
            f" {self._access.key('region')} if the bucket is in another one"
        )
        noted.__cause__ = failure.__cause__
        return noted
