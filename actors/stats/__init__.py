"""One statistic or sketch a file. Each takes a column at a time, can be merged with another, and is plain
data that can be saved.

state.py moments.py components.py   as bytes; moments of a number, and of each component of a vector
quantiles.py hll.py top_values.py   sketches: quantiles, how many distinct, the most frequent
distribution.py distinct.py         moments and quantiles together; exact counts, then a sketch
windows.py late_windows.py          tumbling windows, and those that got something after they had closed
summary.py                          all that is kept of a stretch of a stream
waiting.py                          observations that wait to be looked at together
folding.py                          observations into summaries
drift/                              has a distribution moved?
"""
