"""The commands of `timewell` that speak to a service, each in its module: `add` says what it takes, `run` does it.

exits.py      exit codes, and what is said on stderr
options.py    what several commands take
output.py     answers as JSON or as tables
progress.py   bars for what takes long
service.py    the client, with the tables that files become
reading.py    rows out of CSV, Parquet and NDJSON files, some at a time
columns.py    columns of files as columns of features
saving.py     tables into files
load_state.py how far an interrupted load came

Modules here import nothing heavy until a command runs, so that `timewell --help` answers at once.
"""
