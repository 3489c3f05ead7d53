"""Micro benchmarks: `python -m loadtest.micro [group ...] [--json FILE]`.

data.py          features, entities and batches that all groups use
bare.py          the application without the product, to compare with
partition.py memory.py over_shared.py http.py        one group each, or what two of them have in common
monitoring.py lanes.py
beside_writes.py
holding.py ids.py
__main__.py      the command, the table, and the same as JSON with the machine it was measured on

Everything stays on this machine's loopback, in temporary directories that are removed again.
"""
