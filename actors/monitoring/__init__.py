"""Monitoring of the write stream: statistics, drift, quality checks and alerts.

monitor.py statistics.py      the actor that keeps statistics of the stream; statistics of any period
drift.py                      drift between two summaries or samples
events.py webhook.py          events for listening clients; alerts sent to a webhook
checks.py                     the kinds of checks and their configuration
findings.py                   evaluating a check
alerts.py                     the life cycle of an alert
watch.py                      checks, references, scores and alerts, based on the statistics
schedule.py                   what runs periodically
"""
