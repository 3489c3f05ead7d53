"""The concurrent core, in reading order, bottom floor first. Imports point down only.

errors.py settings.py memory.py   the tree of errors; every setting and limit; the allocator
remembered.py                     what is kept of questions for the next one, bounded in bytes
turns.py                          long work in steps, others taking their turns in between
timestamps.py clock.py domain.py  time; the clocks; the nouns, frozen
values.py patterns.py constraints.py  values between JSON and columns; users' expressions; what a schema adds
columns.py rows.py                a batch as columns; kernels over sorted rows
grid.py pieces.py latest.py       many latest values; arrays that grow where they are; the tables of the latest
merging.py layers.py tail.py      large runs a step at a time; the runs of a series; what came last
found.py series.py                what a question has looked up; one feature in one shard
equality.py aggregates.py ranged.py  numbers for texts; aggregates of groups; and of ranges, in worker threads
stats/                            statistics of a stream, mergeable, and drift
partition.py selection.py         what one store owns; the features that a request reads
storage/                          where durable things live: one protocol, one file per implementation
messages.py                       what may be asked
mailbox.py supervisor.py          ask, tell, drain; crash, reload, run again
repeats.py                        one write at a time of an idempotency key
registry.py ingest.py             what is registered; from rows as sent to blocks
ingest_arrow.py arrow_values.py   the same from Arrow tables
arrow_keys.py spool.py            ids and timestamps of Arrow; blocks set aside
arrow_plain.py arrow_objects.py   Arrow types written out; Arrow values as JSON has them
arrow_stream.py                   a stream of Arrow, judged before it is read
overwriting.py                    rows that a later one of their batch overwrites
journal.py store.py monitor.py    the actors
remote.py                         a store whose values are in a server
checkpoint.py serving.py          the journal into the history; questions over all shards
drift.py checks.py findings.py    drift of a feature; what a check asks; what it finds
alerts.py events.py webhook.py    the life of an alert; who is told, inside and outside
statistics.py watch.py schedule.py  statistics put together; checks and drift over them; by the clock
follower.py judge.py              what other processes change in a shared store; rows before they are written
migration.py                      everything from one storage into another
router.py                         the only door
"""
