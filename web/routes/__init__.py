"""The contract, a chapter a file (history and monitoring: several). Each route is described where it is answered.

registry.py writing.py serving.py        what is registered; values in; the latest
ranges.py training.py history.py         aggregates over a range; training sets; the observations of an entity
statistics.py checks.py drift.py         statistics; checks; drift
monitoring.py operating.py               freshness, alerts and events; erasing, health, figures
document.py                              all of them in order, and the OpenAPI document
"""
