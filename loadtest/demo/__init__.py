"""A tour of a running service: `python -m loadtest.demo`.

show.py        requests and answers, trimmed so that each fits a glance
purchases.py   what a small shop's users bought
__main__.py    the steps of the tour
"""
