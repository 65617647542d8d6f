"""Listing folders by day for the check of digests: which days there are, and the objects of one."""

from collections.abc import Iterator

from ctrail_pipeline.core.bucket.interface import Bucket, Listed
from ctrail_pipeline.core.keys.minutes import day_number


def days_with_folder(bucket: Bucket, folder: str, first: int, end: int) -> Iterator[int]:
    """Yield the days from `first` and before `end` that have a folder: three levels of listings."""
    years = range(1970 + first // 366 - 1, 1970 + end // 365 + 2)
    for year in bucket.list_folder(folder).folders:
        if not (year.isdecimal() and len(year) == 4 and int(year) in years):
            continue
        for month in bucket.list_folder(f"{folder}{year}/", expected=True).folders:
            if not (month.isdecimal() and len(month) == 2):
                continue
            days = bucket.list_folder(f"{folder}{year}/{month}/", expected=True).folders
            for name in days:
                if name.isdecimal() and len(name) == 2:
                    day = day_number(int(year), int(month), int(name))
                    if day is not None and first <= day < end:
                        yield day


def objects_in(bucket: Bucket, folder: str) -> Iterator[Listed]:
    """Yield the objects below a folder that a listing has named, in the order of their keys."""
    after = ""
    while True:
        page = bucket.list_page(folder, after, expected=True)
        yield from page.objects
        if page.last or not page.objects:
            return
        after = page.objects[-1].key
