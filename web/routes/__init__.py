"""A blueprint per chapter of the contract. Each module's `blueprint` takes the router that it asks.

registry.py writing.py serving.py        what is registered; values in; the latest
training.py operating.py                 training sets; health, metrics, the document
monitoring.py checks.py drift.py         statistics and events; checks and alerts; drift
history.py                               looking back
"""
