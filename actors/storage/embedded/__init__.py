"""Storage of one process: a SQLite journal for recent writes, and a Delta table of sorted runs for the rest.

sealed.py sqlite_log.py directory.py   rows with checksums; checking SQLite's write-ahead log; locking a directory
layout.py                              observations as Arrow tables: the layout of the history
database.py run_files.py               a SQLite database; the history files, verified when read
journal_file.py summaries.py delta.py  journal and registry; the monitor's summaries; the log of the Delta table
runs.py doubt.py                       the history as sorted runs; files whose record in the journal is damaged
erasure.py damages.py                  pending erasures; the known damage
checking.py                            checks a directory for damage
forgetting.py                          gives up what is damaged
log.py                                 the journal as log of a storage
filed.py                               the runs as history of a storage
known_ids.py                           lists the ids of entities
moving.py                              migrations to and from other storages
local.py                               the storage, made of these parts; in memory
on_disk.py                             the storage in a directory
"""
