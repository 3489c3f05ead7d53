"""The highest rate at which a latency bound holds: `python -m loadtest find-limit`.

search.py     doubling, then halving the interval, then confirming; knows nothing of HTTP
command.py    the command line, and what is told of it
"""
