"""Load tests and benchmarks, no part of the product. Each line imports only from the lines above it.

machine/           processes, cores, clients, tables: shared by all of the following
micro/             parts of the product, measured: `python -m loadtest.micro`
workloads/         the requests of a load test, and checks of their answers
openloop/          an open-loop driver: `python -m loadtest run`
limit/ soak/       the highest rate within a latency bound; a mixed load for minutes: `find-limit`, `soak`
compare/           the same work on Timewell and on its peers: `python -m loadtest compare`
__main__.py        the commands
"""
