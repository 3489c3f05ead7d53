"""Request bodies: bounded, decoded a piece at a time, judged.

encodings.py choices.py outline.py   gzip; the words of enumerated fields; where items of an array begin and end
requests.py                          typed bodies and query strings
items.py                             a long array, decoded a piece at a time
row_lines.py writing_rows.py         rows as NDJSON; observations from JSON, judged
bulk.py                              the bulk lanes: NDJSON streams and Arrow tables
"""
