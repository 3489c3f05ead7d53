"""The requests of a load test, and checks of their answers.

shape.py          how many entities, features and values; which values exist, so that answers can be checked
asks.py           a request, its kind and the check of its answer; the requests of a run
reading.py writing.py    the requests of each kind
soaking.py        a mixture of all, in which every write is different
scenarios.py      the named mixtures of them
"""
