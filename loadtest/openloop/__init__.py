"""An open-loop driver: `python -m loadtest run`.

Requests are sent on schedule, whether or not those before are answered, and latency counts from the schedule: a
stall of the service shows in every request that was due during it.

schedule.py     the instants
slow_reader.py  clients that read slowly
recording.py    shared by parent and drivers: the result of each request, and messages
drive.py        the loop, on trio
outcome.py      evaluates the recording
driver.py       the process of the loop, on its own core
load.py         the parameters of a run, and its options
parent.py       starts the drivers and waits for them
report.py       the report of a run
command.py      the command line
"""
