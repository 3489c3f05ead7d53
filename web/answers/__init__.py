"""What goes out.

worker.py pages.py listing.py         room and threads for what is large; cursors; lists of any length
event_stream.py shown_statistics.py   server-sent events; a summary as the contract shows it
results.py                            answers of many rows
lanes.py                              their forms: JSON, NDJSON, CSV, Arrow
"""
