"""What comes in: bodies of requests, bounded, decoded in turns, judged.

encodings.py choices.py outline.py   compressed ones; fields of a few words; where items begin and end
requests.py                          typed bodies and query strings
items.py                             a large array a piece at a time
writing_rows.py                      observations as they are sent
bulk.py                              the bulk lanes
"""
