"""The routes of the service as methods, each written once for both clients.

registry.py catalogue.py  features and groups; entity types and feature services
values.py monitoring.py   writing and reading values; statistics, checks, drift, alerts
frames.py exports.py      writing and reading values as frames; everything observed, page by page
"""
