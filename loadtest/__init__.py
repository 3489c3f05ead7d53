"""Load on purpose. None of it is part of the product. Each line imports only from the lines above it.

machine/           processes, cores, clients, tables: what all that follows uses
micro/             parts of the product, measured: `python -m loadtest.micro`
workloads/         what is asked of a service under load
openloop/          an open-loop driver: `python -m loadtest run`
limit/ soak/       the highest rate that holds; minutes of everything at once: `find-limit`, `soak`
compare/           the same work on Timewell and on its peers: `python -m loadtest compare`
demo/              every route at work: `python -m loadtest.demo`
__main__.py        the commands
"""
