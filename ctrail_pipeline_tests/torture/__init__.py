"""A random campaign against the promises: kills, faults, full disks, lost ledgers, and a checker.

    python -m ctrail_pipeline_tests.torture --minutes 10 --seed 1

`actors`: the processes that are killed. `world`: buckets, server, output, and how they are checked.
`campaign`: the steps, drawn from a seed. `tally`: what happened, as a table or JSON.
"""
