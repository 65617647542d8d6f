"""What S3 bills for requests, by its list prices.

Storage, transfer and other services are not here, nor is how many requests something takes.
"""

from typing import Final

DOLLARS_A_LIST: Final = 0.005 / 1000
"""AWS, "Amazon S3 pricing", S3 Standard in us-east-1: PUT, COPY, POST, LIST requests."""
DOLLARS_A_GET: Final = 0.0004 / 1000
"""AWS, "Amazon S3 pricing", S3 Standard in us-east-1: GET and all other requests. Transfer out of
the region comes on top."""
