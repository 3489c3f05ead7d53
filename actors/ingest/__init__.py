"""Ingestion: validating rows from JSON, lines and Arrow, and turning them into batches.

entity_ids.py                  what an entity id may be
composite.py                   the ids of composite entity types
sent.py                        rows from JSON: references, ids, timestamps, values, schemas
row_ids.py request_fields.py   entity ids out of rows that name several entities; fields for computed features
arrow_stream.py arrow_keys.py  reading Arrow streams, within limits; columns of ids and of timestamps
overwriting.py spool.py        counting rows that a later one in the batch overwrites; spooling batches to a file
arrow_tables.py                Arrow tables, long and wide
"""
