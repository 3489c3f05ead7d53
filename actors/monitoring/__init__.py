"""Watching the write stream.

monitor.py statistics.py      statistics of the stream, and the actor that is fed it; those of any period
comparing.py                  drift between two of them
events.py webhook.py          who is told, inside and outside
checks.py                     what a check asks
findings.py                   what it finds
alerts.py                     the life of an alert
watch.py                      checks, references, scores and alerts over the statistics
schedule.py                   by the clock
"""
