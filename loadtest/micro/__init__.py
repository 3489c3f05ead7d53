"""Micro benchmarks: `python -m loadtest.micro [group ...] [--json FILE]`.

data.py          features, entities and batches that all groups use
bodies.py        the same as requests
partition.py memory.py over_shared.py http.py        one group each, or two
monitoring.py lanes.py beside.py expressions.py
__main__.py      the command, the table, and the same as JSON with the machine it was measured on

Everything stays on this machine's loopback, in temporary directories that are removed again.
"""
