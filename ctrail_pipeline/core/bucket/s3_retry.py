"""Requests to S3 that fail are made again: which ones, after which pause, and how often.

All retries are made here and none inside libcurl or boto3: two levels multiply (a key that
is throttled for good cost 20 requests), and nobody counts the inner ones. One exception: libcurl
asks a second time where a connection that it kept turns out to be closed.

Not here: what an error means (`s3_errors`), and where new credentials come from
(`credential_renewal`).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from random import uniform
from typing import Final, TypeVar

from ctrail_pipeline.core.exceptions import CredentialsError, StoreError, StoreUnavailable
from ctrail_pipeline.core.settings import BucketAccess, Settings

from .boundary import boundary
from .credential_renewal import RenewableCredentials
from .credentials import Credentials
from .curl_request import CurlError
from .current_endpoint import CurrentEndpoint
from .s3_errors import client_errors, translate

T = TypeVar("T")

ATTEMPTS: Final = 7
"""How often one request is tried; the pauses sum to 12.6 s at most. If half of all requests fail
(S3 throttles a prefix so), 1 in 128 is left to a later run."""
TIMEOUTS: Final = 3
"""Client timeouts after which no further try begins: a server that hangs costs no more."""
FIRST_PAUSE_SECONDS: Final = 0.2
"""The longest pause before the second try. Each later pause is twice as long; each is multiplied by
a random number between a half and one."""


class Retries:
    """Makes the requests to one bucket, and makes them again while they may succeed."""

    def __init__(
        self,
        access: BucketAccess,
        settings: Settings,
        credentials: RenewableCredentials,
        endpoint: CurrentEndpoint,
    ) -> None:
        self._access = access
        self._settings = settings
        self._credentials = credentials
        self._endpoint = endpoint

    def ask(self, request: Callable[[], T], location: str, permission: str) -> T:
        """Make one request as `ask_all` does; raise its error if it does not succeed."""

        def attempt(_pending: Sequence[int]) -> "list[T | Exception]":
            return [request()]

        [result] = self.ask_all(attempt, [location], permission)
        if isinstance(result, StoreError):
            raise result
        return result

    def ask_all(
        self,
        request: Callable[[Sequence[int]], "list[T | Exception]"],
        locations: Sequence[str],
        permission: str,
    ) -> "list[T | StoreError]":
        """Ask for several objects at once, then again for those that may still come.

        `request` gets the numbers of the objects that are pending, and returns what came of each,
        in order. What it raises counts for all of them. Between two tries lies a growing pause with
        jitter.
        """
        results: dict[int, T | StoreError] = {}
        pending = list(range(len(locations)))
        spent: defaultdict[int, float] = defaultdict(float)
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(_pause_before(attempt))
            credentials, unusable = self._credentials.current, self._credentials.why_unusable()
            if unusable is not None:
                results |= dict.fromkeys(pending, unusable)
                break
            responses, seconds = _timed(request, pending, self._access)
            again = []
            for number, response in zip(pending, responses, strict=True):
                if not isinstance(response, Exception):
                    results[number] = response
                    continue
                # Each object's own time: others that were asked for with it may have been slow.
                error = response.__cause__ if isinstance(response, StoreError) else response
                spent[number] += error.seconds if isinstance(error, CurlError) else seconds
                is_last = attempt == ATTEMPTS - 1 or spent[number] >= self._limit_seconds
                failure = translate(response, locations[number], permission, self._access)
                failure = self._endpoint.noted(failure)
                results[number] = failure
                if self._may_succeed(failure, credentials, is_last=is_last):
                    again.append(number)
            if not again:
                break
            pending = again
        return [results[number] for number in range(len(locations))]

    @property
    def _limit_seconds(self) -> float:
        """Seconds of requests for one object after which no further request for it begins."""
        return 0.99 * TIMEOUTS * self._settings.client_timeout  # clocks differ by some ms

    def _may_succeed(self, failure: StoreError, credentials: Credentials, *, is_last: bool) -> bool:
        """Whether to ask again. If the credentials failed: only if others are found by then."""
        if isinstance(failure, CredentialsError) and (
            is_last or not self._credentials.renew(credentials, failure)
        ):
            self._credentials.refuse_for_a_while(failure)
            return False
        return isinstance(failure, StoreUnavailable) and not is_last


def _pause_before(attempt: int) -> float:
    """Seconds to wait before a try; the second try is attempt 1."""
    share = uniform(0.5, 1)  # noqa: S311 - spreads retries, guards nothing
    return FIRST_PAUSE_SECONDS * share * (1 << (attempt - 1))


def _timed(
    request: Callable[[Sequence[int]], "list[T | Exception]"],
    pending: Sequence[int],
    access: BucketAccess,
) -> "tuple[list[T | Exception], float]":
    """What came of each pending object, and the seconds that the request took."""
    began = time.monotonic()
    responses: list[T | Exception]
    try:
        with boundary(access):
            try:
                responses = request(pending)
            except client_errors() as error:
                responses = [error] * len(pending)
    except StoreError as error:
        responses = [error] * len(pending)
    return responses, time.monotonic() - began
