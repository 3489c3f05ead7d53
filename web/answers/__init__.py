"""What goes out.

worker.py pages.py listing.py         room and threads for what is large; cursors; lists of any length
event_stream.py registered.py         server-sent events; what is registered, as the contract shows it
shown_statistics.py                   a summary
results.py                            answers of many rows
lanes.py                              their forms: JSON, NDJSON, CSV, Arrow
"""
