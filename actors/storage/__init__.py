"""Where durable things live: one protocol, one file per implementation and per part of one.

protocol.py   what the actors ask of a storage, and the entries that they commit
sealed.py     rows of SQLite with a checksum each
sqlite_log.py whether SQLite would pass over something in its log
database.py   one SQLite database behind a lock
journal.py    the journal, the registry's records and the monitor's notes, in SQLite
monitored.py  the monitor's summaries, in another
history.py    observations as Arrow tables: sorting, filtering, reading back
run_files.py  the history's files with their checksums, and reading them
delta.py      the log of a Delta table
runs.py       the history as sorted runs in memory, or as a Delta table on disk
redis_*.py    in Redis: its functions, the link to it, rows, what changes, statistics, claims, moving house
damages.py    what is known to be damaged, and who must be told so
checking.py   whether a directory is what was written
forgetting.py going on without what is damaged
local.py      all of these together, in memory
embedded.py   the same in a directory
"""

import os

# The system's allocator gives memory back: Arrow's own would keep what a checkpoint needed for a moment. Set for
# the whole library before its import; `pyarrow.set_memory_pool` is not heard by the readers of the history files.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
