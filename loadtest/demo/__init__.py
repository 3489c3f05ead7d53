"""A tour of a running service: `python -m loadtest.demo`.

purchases.py   what a small shop's users bought
__main__.py    the steps of the tour
"""
