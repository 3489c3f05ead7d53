"""An open-loop driver: `python -m loadtest run`.

Requests leave when the schedule says, whatever became of those before, and latency counts from the schedule: a
stall of the service shows in every request that should have been answered meanwhile.

schedule.py     the instants
recording.py    what became of each request, in arrays that parent and drivers share
drive.py        the loop, on trio
driver.py part.py    the process around it, on a core of its own; what it is told and tells
slow_reader.py  clients that are in no hurry
load.py options.py   a run as it was asked for, and the options that ask for it
parent.py       starts the drivers and watches
percentiles.py outcome.py    what the recording comes to
progress.py report.py charts.py    what one sees of it
command.py      the command line
"""
