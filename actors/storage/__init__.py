"""The storage engines.

entries.py    the entries that are committed to a storage
listed.py     listing the ids of entities
protocol.py   the interface of a storage
carrying.py   for migrations: grouping observations into rows, and fingerprints of them
shared/       what the engines for shared stores have in common
embedded/     storage of one process: in a directory, or in memory
postgres/     PostgreSQL as shared store
redis/        Redis or Valkey as shared store
"""

import os

# Arrow's own memory pools would keep what a checkpoint needed only for a moment; the system's returns it.
# Set before pyarrow is imported, as the readers of the history files ignore `pyarrow.set_memory_pool`.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
