"""`python -m loadtest compare`: the same work on Timewell and on its peers, in turns, on this machine.

work.py          what is asked, what a round comes to, and who does it; the list of workloads
comparison.py    what the rounds of a workload beside a peer come to
several.py       the rows that name several entities
data.py          the values, questions and batches that everyone is given, as Arrow tables too
environments.py  a virtual environment for a peer that ours has no room for
driving.py       questions over HTTP, from several connections, until the time is up
serving.py       servers from their start to their end, stores that both use, and peers that have a server
peers/           one file for each of those compared, and their names
rounds.py        ours, theirs, ours, theirs, and what the pairs come to
report.py        the table, and the files that are kept
command.py       the options, the order of things, and what is done with the findings

Loopback only, in temporary directories, bounded in count and time; all children end with the command.
"""
