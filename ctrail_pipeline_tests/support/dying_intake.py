"""A look that kills itself while it takes notifications, for `python -c`.

Its settings come pickled on the standard input, and the step at which it dies as an argument.
"""

from typing import Final

STEPS: Final = ("received", "noted", "committed", "deleted")
"""Before the rows are written, before the COMMIT, before and after the messages are deleted."""
DIES: Final = """
import os, pickle, signal, sys
from ctrail_pipeline.core.bucket.queue import NotificationQueue
from ctrail_pipeline.core.listing import notification_intake
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor

def die(*_values, **_names):
    os.kill(os.getpid(), signal.SIGKILL)

step = sys.argv[1]
if step == "received":
    notification_intake.put_found = die
elif step == "noted":
    notification_intake.note_notified = die
elif step == "committed":
    NotificationQueue.delete = die
elif step == "deleted":
    notification_intake.note_asked = die
look(pickle.loads(sys.stdin.buffer.read()), LookCursor(), 20.0)
"""
