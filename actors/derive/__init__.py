"""Features that are computed from others, and the language in which they are defined.

expressions/     the language of expressions
on_demand.py     features computed when they are read
computing.py     their values for the rows of a request
"""
