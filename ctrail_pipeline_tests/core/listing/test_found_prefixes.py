"""What a run says of the source prefixes that it comes to."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline_tests.support.buckets import settings_of

LEFT_OUT = (
    "trail main: us-east-1 is left out (accounts that have it: {}): events of IAM and STS and most"
    " sign-ins are logged there, whatever region people work in"
)


@pytest.mark.parametrize(
    ("options", "accounts"),
    [
        ({"regions": ["eu-*"]}, 3),
        ({"exclude_regions": ["us-*"]}, 3),
        ({"regions": ["eu-*"], "accounts": ["4444*"]}, 1),
        ({"regions": ["eu-*"], "kinds": ["CloudTrail-NetworkActivity"]}, 0),
        ({"regions": ["eu-*"], "accounts": ["1111*"]}, 1),
        ({"regions": ["eu-*", "us-east-1"]}, 0),
        ({"accounts": ["1111*"]}, 0),
        ({"accounts": ["3333*"], "regions": ["eu-*"]}, 0),
        ({}, 0),
    ],
)
@pytest.mark.parametrize("is_of_trail", [False, True])
def test_a_run_says_where_the_region_of_global_services_is_left_out(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, list[str]],
    accounts: int,
    is_of_trail: bool,
) -> None:
    for folder in (
        *("111111111111/CloudTrail/us-east-1", "111111111111/CloudTrail/eu-west-1"),
        *("222222222222/CloudTrail/us-east-1", "222222222222/CloudTrail/eu-west-1"),
        *("333333333333/CloudTrail/eu-west-1", "333333333333/CloudTrail-Digest/us-east-1"),
        "333333333333/CloudTrail-NetworkActivity/us-east-1",
        "444444444444/CloudTrail/us-east-1",
    ):
        (tmp_path / "AWSLogs" / folder).mkdir(parents=True)
    trail = Trail("main", tmp_path.as_uri())
    if is_of_trail:
        settings = settings_of(replace(trail, **options))  # type: ignore[arg-type]
    else:
        settings = replace(settings_of(trail), **options)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "ctrail_pipeline"):
        find_prefixes(settings, Selection(), lambda problem: pytest.fail(str(problem)))
    said = [message for message in caplog.messages if "us-east-1 is left out" in message]
    assert said == ([LEFT_OUT.format(accounts)] if accounts else [])
