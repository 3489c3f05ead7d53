"""Statistics and sketches, one per file. Each takes a column at a time, can be merged with another, and is plain
data that can be saved.

state.py moments.py components.py   serialization; moments of a number, and of each component of a vector
quantiles.py hll.py top_values.py   sketches: quantiles, distinct count (HyperLogLog), most frequent values
distribution.py distinct.py         moments and quantiles together; distinct count, exact at first
windows.py late_windows.py          tumbling windows; windows that got observations after they had closed
summary.py                          all statistics of a part of a stream
waiting.py                          collected observations that are not yet in a summary
folding.py                          adds observations to summaries
drift/                              drift between two distributions
"""
