"""What is written together, how it is kept in memory and asked.

columns.py pieces.py                 arrays beside each other; arrays that grow where they are
ids.py                               entity ids, each distinct one once
batch.py                             a batch: tables of whose, of when, and a column for each feature
packing.py sharding.py               a batch as bytes; the parts of it that each store owns
index.py                             whose rows are and of when, which series written together share
rows.py grid.py                      kernels over sorted rows; the latest of many features and entities
latest.py equality.py                the tables of the latest; numbers in place of texts
merging.py tail.py found.py          large runs a step at a time; what came last; what a question has looked up
layers.py aggregates.py selection.py   the runs of a series; aggregates of groups; the features that are read
ranged.py series.py                  aggregates of ranges, in worker threads; one feature in one shard
partition.py                         what one store owns
loading.py                           what the history has, on its way there
"""
