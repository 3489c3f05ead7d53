"""`python -m loadtest compare`: the same work on Timewell and on its peers, in turns, on this machine.

work.py          the kinds of work, the result of a round, the interface of a peer; the list of workloads
comparison.py    the results of a workload on Timewell and on a peer
several.py       data for rows that name several entities
data.py          the values, requests and batches, the same for all peers; as Arrow tables too
environments.py  a virtual environment for a peer whose dependencies conflict with ours
driving.py       requests over HTTP, from several connections, for a given time
serving.py       servers from their start to their end, shared stores, and peers that have a server
peers/           one file for each peer, and their names
rounds.py        rounds in turns (ours, theirs, ours, theirs), and the check that both answer the same
report.py        the table, and the report
command.py       the options; runs each peer, and keeps the report

Loopback only, in temporary directories, bounded in count and time; all children end with the command.
"""
