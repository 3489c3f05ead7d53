"""Those compared.

timewell.py           Timewell itself, the measure of the others
feast.py redis.py hypercorn.py    the others
lineup.py             the names by which they are asked for
"""
