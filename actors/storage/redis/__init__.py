"""A storage in Redis or Valkey, alone or as a cluster.

functions.py                              what Redis decides by itself, and the keys it works on
link.py                                   connections: commands in one visit, deadlines, errors that help
stream.py changes.py claims.py            from the event loop; changes of the registry; who alone may write
stored_rows.py summaries.py               observations; statistics, merged over all writers
registry.py                               what is registered, and who leads
log.py values.py                          what is committed; the values, and what was accepted
moving.py                                 everything out and in
storage.py                                all of these together
"""
