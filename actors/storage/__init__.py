"""Where durable things live.

protocol.py   what the actors ask of a storage, and the entries that they commit
carrying.py   everything to another storage: what belongs into one row, what shows that it arrived
shared/       what storages that several processes share have in common
embedded/     on this machine: in a directory, or in memory
postgres/     in PostgreSQL
redis/        in Redis or Valkey
"""

import os

# The system's allocator gives memory back: Arrow's own would keep what a checkpoint needed for a moment. Set for
# the whole library before its import; `pyarrow.set_memory_pool` is not heard by the readers of the history files.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
