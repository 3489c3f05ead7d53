"""Response bodies.

worker.py pages.py listing.py         limits and threads for large answers; cursors; lists of any length
event_stream.py registered.py         server-sent events; features and groups in the contract's form
shown_statistics.py                   statistics in the contract's form
results.py                            answers of many rows, as JSON
lanes.py                              the same in every format: JSON, NDJSON, CSV, Arrow
keyed.py                              the columns that say what a row is about
"""
