"""Group `ids`: how long small reads take while another client lists a million ids again and again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from loadtest.machine.arrow import post_table
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, at_most
from loadtest.machine.messages import Address, get, post
from loadtest.machine.service import temporary
from loadtest.micro import data
from loadtest.micro.beside_writes import ROUNDS, p99_of_reads
from loadtest.micro.http import FEATURES, register
from loadtest.micro.lanes import PATH

IDS = 1_000_000
PAGE = 10_000


def run() -> Iterator[Result]:
    """The first listing, then reads alone and beside listings."""
    request = post("/features/serve", {"entityIds": data.entity_ids([7]), "features": FEATURES[:2]})
    alone, beside, listings = list[float](), list[float](), list[float]()
    with temporary() as service:
        register(service.address)
        _write(service.address)
        first = _listed(service.address)
        for _ in range(ROUNDS):
            alone.append(p99_of_reads(service.address, request))
            over = threading.Event()
            lister = threading.Thread(target=_list_until, args=(service.address, over, listings))
            lister.start()
            beside.append(p99_of_reads(service.address, request))
            over.set()
            lister.join()
    yield Result(f"ids: the first listing of {IDS:,}, pages of {PAGE:,}", "s", [first])
    yield Result("ids: further ones, beside reads", "s", listings)
    yield Result("ids: p99 of serve 1x2, alone", "ms", [one * 1e3 for one in alone])
    yield Result("ids: the same beside listings", "ms", [one * 1e3 for one in beside])
    ratios = [one / other for one, other in zip(beside, alone, strict=True)]
    yield Result("ids: p99 beside listings to alone", "x", ratios, at_most(2))


def _write(address: Address) -> None:
    order = np.random.default_rng(9).permutation(IDS).tolist()
    with Connection(address) as connection:
        for start in range(0, IDS, PAGE):
            ids = data.entity_ids(order[start : start + PAGE])
            connection.ask(post_table(PATH, pa.table({"entityId": ids, FEATURES[0]: np.ones(len(ids))})))


def _list_until(address: Address, over: threading.Event, took: list[float]) -> None:
    while not over.is_set():
        took.append(_listed(address))


def _listed(address: Address) -> float:
    """Seconds that a listing takes."""
    began, cursor, count = time.perf_counter(), "", 0
    with Connection(address) as connection:
        while count == 0 or cursor:
            answer = connection.ask(get(f"/entities/user/ids?limit={PAGE}&cursor={cursor}"))
            count += answer.count(b'","') + 1
            end = answer[-1_000:].partition(b'],"nextCursor":')[2]
            cursor = json.loads(end[:-1]) if end else ""
    assert count == IDS, count
    return time.perf_counter() - began
