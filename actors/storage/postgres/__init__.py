"""A storage in PostgreSQL.

tables.py                            the tables, and how a database comes to have them
link.py                              connections, deadlines, errors that help
claims.py stored_rows.py             who alone may write under an idempotency key; observations
summaries.py                         statistics, merged over all writers
storage.py                           all of these together
"""
