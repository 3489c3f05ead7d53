"""PostgreSQL as shared store.

tables.py                            the tables, and their migrations
link.py                              connections, timeouts, helpful errors
claims.py stored_rows.py             claims on idempotency keys; reading and writing rows of observations
summaries.py                         statistics, merged over all writers
registry.py                          the registry, and the election of a leader
log.py values.py                     commits; reading values and history
known_ids.py                         lists the ids of entities
moving.py                            migrations to and from other storages
storage.py                           the storage, made of these parts
"""
