"""The webhook tells people outside of Dagster that something is wrong: a POST of JSON to a URL.

Slack, Mattermost, Teams' workflows and most others take `{"text": …}`. The URL is a secret: it is
in no message and no log line. Not here: what is told, and when (`sensors`).
"""

import json
import time
import urllib.error
import urllib.request

_TRIES = 3
_TIMEOUT_SECONDS = 5
_LONGEST_TEXT = 3_000


class WebhookError(Exception):
    """The webhook did not take the message; the error's text says why, without the URL."""


def post(url: str, text: str) -> None:
    """POST a message; raises WebhookError after three tries."""
    shown = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " …"
    request = urllib.request.Request(  # noqa: S310 - the configuration takes http and https only
        url,
        data=json.dumps({"text": shown}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(attempt)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310 - as above
                return
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}"
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", None) or type(error).__name__)
    raise WebhookError(f"failure_webhook: the message was not taken in {_TRIES} tries: {reason}")
