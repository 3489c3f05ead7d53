"""The commands that work on a storage itself: `add` declares the arguments, `run` does the work.

check_data.py migrate.py    verify a data directory; copy everything from one storage to another
"""
