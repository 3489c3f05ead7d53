"""The concurrent core of the service: actors and what they share. It knows nothing of HTTP.

Every package lists its files in its `__init__`. A file imports only from the lines above its own, which
`tests/test_floors.py` enforces.

errors.py memory.py turns.py        the exception tree; the memory allocator; long work split into steps
settings.py timestamps.py           every setting and limit; timestamps and durations
clock.py domain.py remembered.py    the clocks; the domain objects, frozen; a cache bounded in bytes
mailbox.py                          how actors are asked: messages, inboxes, replies
supervisor.py                       restarts an actor that has crashed
types/                              the value types
table/                              columns, series and partitions: the data in memory and how it is queried
amount.py                           bounds on how much a query may read
derive/                             features that are computed from others
stats/                              mergeable statistics of a stream of values, and drift between them
nearest.py                          a few rows of an entity that has very many
storage/                            the storage engines
messages.py                         the messages that each actor answers
repeats.py catalogue.py             idempotency keys; entity types and feature services
registering.py                      registrations of features, validated
registry.py                         the feature registry
ingest/                             rows from JSON, lines and Arrow, validated before they are written
journal.py rebuilding.py            the total order of all writes; partitions made from what is stored
store.py                            one shard of the values
shared_store.py completing.py       one shard whose values are in a shared store; reading what memory lacks
serving.py checkpoint.py            queries over all shards; moving the journal into the history
training.py                         training sets
looking_back.py                     the past of features computed on demand
monitoring/                         statistics, checks and alerts on the write stream
declaring.py kept_rows.py           changes of entity types, services and promotion; the rows of kept training sets
together.py                         registrations judged as a whole
registrar.py                        the actor that changes the registry
follower.py migration.py            changes by other processes in a shared store; copying one storage to another
listing.py                          lists the ids of entities in worker threads
observed.py                         everything observed of some features, in lots
judge.py                            validates rows without blocking the event loop
router.py                           the interface of this package for the front end
opening.py                          starts everything in order, and stops it in reverse order
"""
