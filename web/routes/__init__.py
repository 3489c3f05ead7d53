"""The routes of the contract, by chapter. Each is described at its handler.

registry.py writing.py serving.py        features and groups; writing values; serving the latest values
ids.py                                   the ids of entities
ranges.py training.py history.py         aggregates over a range; training sets; the observations of an entity
statistics.py checks.py drift.py         statistics of a feature; quality checks; drift
monitoring.py operating.py               freshness, alerts and events; erasing, health, metrics
document.py                              all routes in order, and the OpenAPI document
"""
