"""The highest rate at which a latency bound holds: `python -m loadtest find-limit`.

search.py     doubling, then halving the interval, then confirming; without HTTP
command.py    the command line, and the report
"""
