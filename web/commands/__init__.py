"""The commands of the server besides `serve`: `add` says what they take, `run` does it.

check_data.py migrate.py    whether a data directory is what was written; from one storage into another
"""
