"""The machine under all commands: what runs where, what asks, and how figures are told.

cores.py                    who runs on which core
processes.py                child processes from their start to their end, and what the system says of them
messages.py                 HTTP/1.1 as bytes: requests made ready, and the heads of answers
connection.py wire.py       clients that cost a driver next to nothing: one that blocks, one on trio
arrow.py                    tables as requests
noop.py                     an HTTP server that does nothing, to compare with
service.py                  the service as a child process, or one that runs on this machine already
tables.py                   tables for a terminal and for Markdown
measure.py                  samples of one quantity, and what they come to
facts.py                    what figures depend on, and results as files
"""
