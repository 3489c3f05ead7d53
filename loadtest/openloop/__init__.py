"""An open-loop driver: `python -m loadtest run`.

Requests leave when the schedule says, whatever became of those before, and latency counts from the schedule: a
stall of the service shows in every request that should have been answered meanwhile.

schedule.py     the instants
recording.py    what became of each request, in arrays that parent and drivers share
drive.py        the loop, on trio
slow_reader.py  clients that are in no hurry
part.py         what a driver is told and tells
driver.py       the process around the loop, on a core of its own
percentiles.py  of all latencies recorded
outcome.py      what the recording comes to
load.py         a run as it was asked for
options.py      the options that ask for it
parent.py       starts the drivers and watches
progress.py charts.py    what one sees of it
report.py       what is told and kept of it
command.py      the command line
"""
