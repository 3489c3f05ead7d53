"""One statistic or sketch a file. Each takes a column at a time, can be merged with another, and is plain
data that can be saved.
"""
