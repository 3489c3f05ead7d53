"""A storage in Redis or Valkey, alone or as a cluster.

functions.py                              what Redis decides by itself, and the keys it works on
link.py                                   connections: pipelines, deadlines, errors that name the cause
stream.py changes.py claims.py            queries from the event loop; registry changes; claims on idempotency keys
stored_rows.py summaries.py               observations; statistics, merged over all writers
registry.py                               what is registered, and who leads
known_ids.py                              lists the ids of entities
log.py values.py                          what is committed; the values, and what was accepted
moving.py                                 migrations to and from other storages
storage.py                                all of these together
"""
