"""What runs in the environments of peers. Imports only Python's own modules and what is installed there.

calls.py       calls as lines of JSON
feast_sdk.py   Feast's library
"""
