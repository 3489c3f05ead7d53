"""The peers.

timewell.py           Timewell itself; also asked about one entity type at a time
feast_sdk.py          Feast's library, which runs in an environment of its own and imports nothing of this project
feast.py redis.py postgresql.py   stores
engines.py            point-in-time joins in this process: DuckDB, Polars, and Timewell without HTTP
lineup.py             the peers by name
"""
