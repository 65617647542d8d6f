"""Tells people outside of Dagster that something is wrong: one POST of JSON to a configured URL.

`{"text": …}` is what Slack, Mattermost, Teams' workflows and most others take. The URL is a secret:
it is in no message and no log line.
"""

import json
import time
import urllib.error
import urllib.request

_TRIES = 3
_TIMEOUT_SECONDS = 5
_LONGEST_TEXT = 3_000


class WebhookError(Exception):
    """The message was not taken; the text says why, without the URL."""


def post(url: str, text: str) -> None:
    """POST a message; raises WebhookError after three tries."""
    shown = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " …"
    request = urllib.request.Request(  # noqa: S310 - the configuration takes http and https only
        url,
        data=json.dumps({"text": shown}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    why = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(attempt)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310 - as above
                return
        except urllib.error.HTTPError as error:
            why = f"HTTP {error.code}"
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            why = str(getattr(error, "reason", None) or type(error).__name__)
    raise WebhookError(f"failure_webhook: the message was not taken in {_TRIES} tries: {why}")
