"""A storage on this machine: SQLite for what has just come, a Delta table of sorted runs for the rest.

sealed.py sqlite_log.py directory.py   rows with a checksum each; what SQLite would pass over; whose directory
history.py                             observations as Arrow tables, and back
database.py run_files.py               an SQLite database; the history's files, verified as they are read
journal_file.py summaries.py delta.py  the journal and the registry; the monitor's summaries; the log of the table
runs.py doubt.py                       the history as sorted runs; what the table's log still tells
erasure.py damages.py                  what is erased; what is damaged
checking.py                            whether a directory is what was written
forgetting.py                          going on without what is damaged
log.py                                 the journal as the log of a storage
filed.py                               the runs as its history
moving.py                              everything out and in
local.py                               all of these together, in memory
on_disk.py                             and in a directory
"""
