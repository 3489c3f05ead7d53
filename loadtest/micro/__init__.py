"""Micro benchmarks: `python -m loadtest.micro [group ...] [--json FILE]`.

measure.py    samples and what they come to
report.py     the table, and the same as JSON with the machine it was measured on
data.py       features, entities and batches that all groups use
process.py    child processes, and their memory and processor time
service.py    a service in a child process
client.py     a keep-alive HTTP connection that costs the driver next to nothing
bare.py       the application without the product, to compare with
filling.py    the child that fills or reopens a data directory
stepping.py   the service as a child that notes how long its tasks hold the event loop
partition.py http.py lanes.py beside_writes.py holding.py monitoring.py memory.py over_*.py    one group each

Everything stays on this machine's loopback, in temporary directories that are removed again.
"""
