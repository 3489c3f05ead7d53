"""Minutes or hours of everything at once: `python -m loadtest soak`.

ledger.py     what must be there, from what was acknowledged
readback.py   whether it is, asked of the service
trend.py      whether memory and latency have grown
report.py     what is told of it
stage.py      load, read back, kill, read back
command.py    the command line
"""
