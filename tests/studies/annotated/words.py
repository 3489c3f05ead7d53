"""The sentences of the results file that no number changes."""

from __future__ import annotations

INTRODUCTION = """# Drift in series that people annotated

`python -m tests.studies.annotated` made this file with {versions} in {seconds:.0f} s.

The series are those of `river.drift.datasets`, from the Turing Change Point Dataset: real ones, in which up to
five people marked where they saw a change. Each column became a feature of a running Timewell (embedded storage, a
process of its own), its rows were written over HTTP in order with their own timestamps, and after each window two
questions were asked of `GET /features/.../drift`: against the first window, and against the window before.

- **Change points** are all rows that any annotator marked, each once. One is found when its window or the next one
  is judged drift against the window before. A window is *at a point* when its alarm would count so, and *far from
  any* when neither it nor a neighbour holds one. That favours the monitor where annotators marked much.
- **Marked by most** are windows in which more than half of a series' annotators marked a row.
- In brackets: drift of at least medium severity, where that is fewer.
- **Shuffled**: the same values in random order, against the window before, where all drift is a false alarm.
- A window holds at least {least} rows where the series allows it: with fewer the monitor says `insufficient`. Rows
  that remain at the end belong to the last window.

Annotators saw a whole series at once, as a plot; the monitor saw two windows. It is asked here for something it
does not promise: it says that two periods differ, not that a series changed its ways.
"""

VERDICTS_NOTE = """Against a fixed reference, whatever has a trend drifts once and for good, and what has a cycle
drifts whenever it is at another point of it. That column says how far such series are from a fixed past, and
nothing about change points.
"""

RULES_NOTE = """Each cell: change points found · alarms far from any · alarms when shuffled. The rules read the
metrics of the same answers: `ksPValue`; `psi`, which is less what chance gives; `psiRaw`, the index as defined.
*Always* raises an alarm for every window: what finding everything is worth. The columns of a series share its
change points, so the last line counts those of some series more than once.
"""

RATES = """Over the columns that have windows of both sorts, drift was said of {near} windows at a change point
({near_rate:.0%}) and of {far} far from any ({far_rate:.0%}). The closer these rates, the less an alarm tells about
change points. Of all alarms {high} were of high severity and {low} of low: among so few rows only a large
effect is significant, so severity sorts nothing out here.
"""

ALERTS = """## Alerts

Rounds of the checks go by the wall clock and look at the period that ends now. A drift check on {series}, as it
was streamed with its own timestamps, is therefore `{past.status}` ("{past.message}"),
and in {past.rounds} rounds it raised {past.alerts} alerts. It cannot do otherwise for a series of the past.

So that the path is exercised nevertheless, {series} was replayed: {window} rows a second stamped with the present,
in writes of a tenth of a window, under a check of the last second against the 24 seconds before it (nothing
pinned), a round each second, the default rule (two failing rounds fire, two passing ones resolve) but no cooldown.
This is the alert path of the product; the timestamps are not those of the series, and the reference is not that of
the tables above. Rows are those that were written when an alert moved. They vary from run to run, as rounds and
rows are not in step.

{fired}
"""

WINDOWS_NOTE = """## Window by window

`before` and `first`: what the window was compared with; the verdict, or the severity where it is drift, and the
score in standard deviations (10 stands for more). `marks`: how many annotators marked a row in it.
"""
