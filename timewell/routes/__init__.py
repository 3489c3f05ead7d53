"""The routes of the service as methods, each written once for both clients.

parts.py                  requests that go out in parts, and their errors
registry.py catalogue.py  features and groups; entity types and feature services
reading.py                what the columns of an answer read
values.py monitoring.py   writing and reading values; statistics, checks, drift, alerts
serving.py frames.py      serving frames and rows; writing frames, training sets
training_sets.py          training sets that are kept
exports.py                everything observed, page by page
"""
