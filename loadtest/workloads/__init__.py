"""What is asked of a service under load.

shape.py          how many entities, features and values; which values exist, so that answers can be checked
asks.py           a request, its kind and the check of its answer; the requests of a run
reading.py writing.py    the requests of each kind
soaking.py        all of them together, no write like another
scenarios.py      the named mixtures of them
"""
