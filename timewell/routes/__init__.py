"""The routes of the service as methods, each written once for both clients.

registry.py             features and groups
values.py monitoring.py writing and reading values; statistics, checks, drift, alerts
frames.py               writing and reading values as frames
"""
