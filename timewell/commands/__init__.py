"""The commands of `timewell` that speak to a service, each in its module: `add` says what it takes, `run` does it.

exits.py output.py progress.py       exit codes; answers as JSON or tables; bars for what takes long
columns.py load_state.py             columns of files as columns of features; how far an interrupted load came
options.py reading.py saving.py      what several commands take; rows out of files; tables into files
service.py load_parts.py             the client, with the tables that files become; a file in parts
drift.py features.py register.py serve_values.py stats.py write.py load.py export.py
training_set.py

Modules here import nothing heavy until a command runs, so that `timewell --help` answers at once.
"""
