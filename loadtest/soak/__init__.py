"""Minutes or hours of everything at once: `python -m loadtest soak`.

ledger.py     what must be there, from what was acknowledged, and whether it is
trend.py      whether memory and latency have grown
stage.py      load, read back, kill, read back
command.py    the command line, and what is told of it
"""
