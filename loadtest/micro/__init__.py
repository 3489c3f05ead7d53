"""Micro benchmarks: `python -m loadtest.micro [group ...] [--json FILE]`.

data.py          features, entities and batches, shared by all groups
bodies.py        the same as requests
partition.py memory.py http.py monitoring.py        one group each, or two
lanes.py beside.py expressions.py
__main__.py      the command, the table, and the results as JSON

Loopback only, in temporary directories.
"""
