"""A mixed load for minutes or hours: `python -m loadtest soak`.

ledger.py     what was acknowledged, and whether the service has it
trend.py      whether memory and latency have grown
stage.py      load, read back, kill, read back
command.py    the command line, and the report
"""
