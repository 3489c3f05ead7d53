"""The concurrent core. A folder is a room, whose `__init__` lists its files.

What stands on a line imports only from the lines above it, in every room; `tests/test_floors.py` sees to that.

errors.py memory.py turns.py        the tree of errors; the allocator; long work in steps
settings.py timestamps.py           every setting and limit; time
clock.py domain.py remembered.py    the clocks; the nouns, frozen; what is kept of questions for the next one
mailbox.py                          ask, tell, drain
supervisor.py                       crash, reload, run again
types/                              what a value may be
table/                              what is written together, and how it is kept and asked
stats/                              statistics of a stream, mergeable, and drift
amount.py                           how much a question may bring
storage/                            where durable things live
messages.py                         what may be asked of an actor
repeats.py registry.py              one write at a time of an idempotency key; what is registered
ingest/                             from JSON, lines and Arrow to what may be written
journal.py store.py                 the order of all that is accepted; one shard
shared_store.py completing.py       one shard whose values are in a server; reading what is not in memory
serving.py checkpoint.py            questions over all shards; the journal into the history
training.py                         training sets
monitoring/                         watching the write stream
follower.py migration.py            what other processes change in a shared store; everything into another one
judge.py                            rows before they are written, judged where it holds nobody up
router.py                           the only door
opening.py                          everything opened in order, and ended in the reverse
"""
