"""A storage in Redis or Valkey, alone or as a cluster.

functions.py                              what Redis decides by itself, and the keys it works on
link.py                                   connections: commands in one visit, deadlines, errors that help
stream.py changes.py claims.py            from the event loop; changes of the registry; who alone may write
stored_rows.py summaries.py               observations; statistics, merged over all writers
moving.py registry.py                     everything out and in; what is registered
log.py                                    what is committed
storage.py                                all of these together
"""
