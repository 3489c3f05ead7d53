"""Batches, and the data of a store in memory: how it is kept and queried.

columns.py pieces.py                 helpers for arrays; arrays that grow in place
ids.py                               entity ids, each distinct one once
batch.py                             a batch: tables of entities, event times and a column for each feature
packing.py sharding.py               a batch as bytes; splitting a batch by store
index.py                             entities, times and arrivals of rows, shared by series written together
rows.py grid.py                      kernels over sorted rows; latest values of many features and entities
latest.py equality.py                the tables of latest values; numbering equal texts and vectors
merging.py tail.py found.py          merging large runs in steps; recent rows; sharing searches among series
layers.py aggregates.py selection.py   the runs of a series; aggregates of groups; the features of a request
ranged.py series.py                  aggregates over ranges, in worker threads; one feature in one store
partition.py                         the state of one store
loading.py                           loading history into a partition
"""
