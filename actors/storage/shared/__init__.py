"""What the engines for shared stores have in common.

address.py packed.py   validating a URL; storing values that are written together as one row
parts.py               assembling rows from a shared store into answers
base.py                base classes of history and summaries
"""
