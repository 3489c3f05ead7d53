"""An open-loop driver: `python -m loadtest run`.

Requests leave when the schedule says, whatever became of those before, and latency counts from the schedule: a
stall of the service shows in every request that should have been answered meanwhile.

schedule.py     the instants
slow_reader.py  clients that are in no hurry
recording.py    what parent and drivers share: what became of each request, and messages
drive.py        the loop, on trio
outcome.py      what the recording comes to
driver.py       the process around the loop, on a core of its own
load.py         a run as it was asked for, and the options that ask for it
parent.py       starts the drivers, watches, shows progress
report.py       what is told and kept of it
command.py      the command line
"""
