"""The routes of the contract, by chapter. Each is described at its handler.

registry.py services.py                  features and groups; feature services
registrations.py                         all of these together
entities.py ids.py                       entity types; the ids of entities
writing.py serving.py                    writing values; serving the latest values
ranges.py training.py history.py         aggregates over a range; training sets; the observations of an entity
training_sets.py                         training sets that are kept
export.py                                everything observed of some features
statistics.py checks.py drift.py         statistics of a feature; quality checks; drift
monitoring.py operating.py               freshness, alerts and events; erasing, health, metrics
document.py                              all routes in order, and the OpenAPI document
"""
