"""Shared by all commands: processes on cores, HTTP clients, figures and results.

cores.py                    which process runs on which core
processes.py                child processes from their start to their end, and their figures from /proc
messages.py                 HTTP/1.1 as bytes: prepared requests, and the heads of answers
requests.py                 requests to the service
connection.py wire.py       clients with little overhead: one blocking, one on trio
arrow.py                    tables as requests
noop.py                     an HTTP server that does nothing, to compare with
service.py                  the service as a child process, or one that runs on this machine already
tables.py                   tables for a terminal and for Markdown
measure.py                  samples of one quantity, and their median and quartiles
facts.py                    machine, versions and commit; result files
"""
