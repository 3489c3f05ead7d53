"""A storage in PostgreSQL.

tables.py                            the tables, and how a database comes to have them
link.py                              connections, deadlines, errors that help
claims.py stored_rows.py             who alone may write under an idempotency key; observations
summaries.py                         statistics, merged over all writers
registry.py                          what is registered, and who leads
log.py values.py                     what is committed; the values, and what was accepted
moving.py                            everything out and in
storage.py                           all of these together
"""
