"""The commands that ask a service, one per module: `add` declares the arguments, `run` does the work.

exits.py output.py progress.py       exit codes; answers as JSON or tables; progress bars
columns.py load_state.py             columns of files as columns of features; the progress of an interrupted load
options.py reading.py saving.py      arguments that commands share; rows from files; tables into files
service.py load_parts.py             the client of commands that move tables; a file in parts
registration_file.py confirming.py   a file of registrations; asking before what cannot be undone
register.py features.py versions.py promote.py entities.py ids.py groups.py services.py training_sets.py
write.py load.py serve_values.py history.py export.py
made_of_observations.py                training sets that are kept or made of observations
training_set.py stats.py drift.py checks.py alerts.py health.py
delete.py erase.py

Modules here import nothing heavy until a command runs, so that `timewell --help` answers at once.
"""
