"""`python -m ctrail_pipeline.sample` writes the sample buckets."""

import sys

from .bucket import main

sys.exit(main())
