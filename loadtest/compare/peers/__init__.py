"""Those compared.

timewell.py           Timewell itself, the measure of the others
redis_client.py       questions to Redis, in threads of the driver
feast.py redis.py postgresql.py   stores
engines.py            point-in-time joins in this process: DuckDB, Polars, and Timewell without HTTP
hypercorn.py          bare HTTP
lineup.py             the names by which they are asked for
"""
