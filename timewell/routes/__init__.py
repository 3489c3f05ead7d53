"""The routes of the service in chapters, each route once, for both clients.

registry.py             features and groups
values.py monitoring.py values; statistics, checks, drift, alerts
frames.py               values as frames
"""
