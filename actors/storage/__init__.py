"""Where durable things live: one protocol, one file per implementation and per part of one.

protocol.py   what the actors ask of a storage, and the entries that they commit
journal.py    the journal, the registry's records and the positions, in SQLite
history.py    observations as Arrow tables: sorting, filtering, reading back
runs.py       the history as sorted runs in memory, or as a Delta table on disk
local.py      journal and history together: `embedded` in a directory, `memory` in none
"""

import os

# The system's allocator gives memory back: Arrow's own would keep what a checkpoint needed for a moment. Set for
# the whole library before its import; `pyarrow.set_memory_pool` is not heard by the readers of the history files.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
