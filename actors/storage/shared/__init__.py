"""What storages that several processes share have in common.

address.py packed.py   what may be wrong with an address; what is written together as one row
parts.py               rows as a server gives them, put together into what was asked for
base.py                what is the same whatever the server
"""
