"""Taking in: from JSON, lines and Arrow to what may be written.

sent.py                        rows as they were sent: references, ids, timestamps, values, schemas
arrow_stream.py arrow_keys.py  a stream of Arrow, judged before it is read; its ids and timestamps
overwriting.py spool.py        rows that a later one of their batch overwrites; what is set aside in a file
arrow_tables.py                Arrow tables, long and wide
"""
