"""Requests that parsers have been known to disagree about: heads, bodies, and ways to spoil them.

The cases follow the public ones of llhttp (requests) and JSONTestSuite (texts), written for the routes at hand.
Entity ids are `u-0000000`, of which tests replace the digits, so that each example has entities of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

# These are tables; the formatter would give each cell a line.
# fmt: off

ENTITY = b"u-0000000"
OTHER = b"w-0000000"
KEY = b"k-0000000"
PROBE = b'{"entityIds":["%b","%b"],"group":"all","includeMetadata":true}' % (ENTITY, OTHER)

SERVE, WRITE, BATCH = b"/features/serve", b"/features/write", b"/features/write-batch"
HOT = (SERVE, WRITE, BATCH)


def observation(value: bytes = b"1", feature: bytes = b"user.a.v1", entity: bytes = ENTITY) -> bytes:
    """One value to write, a moment before the present."""
    return b'{"featureId":"%b","entityId":"%b","value":%b,"timestamp":"2026-02-01T00:00:00Z"}' % (
        feature,
        entity,
        value,
    )


BODIES: dict[bytes, tuple[bytes, ...]] = {
    SERVE: (
        b'{"entityIds":["%b"],"features":["a"]}' % ENTITY,
        b'{"entityIds":["%b","%b"],"group":"all","includeMetadata":true}' % (ENTITY, OTHER),
        b' {"entityIds" : [] ,\t"features":["user.a.v1","user.b"]}\r\n',
        b'{"entityIds":["%b"],"features":["a","c"],"asOf":"2026-02-01T00:00:00.000001+00:00"}' % OTHER,
        b'{"entityIds":["%b"],"features":["nonesuch"]}' % ENTITY,
        b'{"entityIds":["%b"],"features":["a"],"asOf":"yesterday"}' % ENTITY,
        b'{"entityIds":["\\u0000",""],"features":["a"]}',
        '{"entityIds":["🜁","é\\u0301"],"features":["b"]}'.encode(),
        b'{"entityIds":["%b"],"features":["a"],"nonesuch":1}' % ENTITY,
        b'{"rows":[{"user":"%b"},{"user":7,"x":[{}]},{"user":null}],"group":"all"}' % ENTITY,
        b'{"rows":[{"to":"%b","user":"%b"}],"features":["a",{"ref":"b","key":"to","as":"c"}]}' % (OTHER, ENTITY),
        b'{"rows":[{"user":"%b"},{}],"features":["a"]}' % ENTITY,
        b'{"rows":[{"user":"%b"}],"service":"nonesuch"}' % ENTITY,
        b'{"rows":[],"entityIds":[],"features":["a"]}',
    ),
    WRITE: (
        observation(),
        observation(b"-0.0"),
        observation(b"null"),
        observation(b'"\\ud83d\\ude00"', b"b"),
        observation(b'{"k":[1,{"k":null}]}', b"user.c", OTHER),
        observation(b"true"),
        observation(b"1", b"nonesuch"),
        observation()[:-1] + b',"version":7}',
        b'{"featureId":"a","entityId":"%b","value":2}' % OTHER,
        b'{"entityId":"%b","value":2}' % OTHER,
    ),
    BATCH: (
        b'{"values":[%b]}' % observation(),
        b'{"values":[%b,%b,%b]}' % (observation(b"3"), observation(b'"x"', b"b", OTHER), observation(b"[]", b"c")),
        b'{"values":[%b,%b]}' % (observation(b"4"), observation(b'"no number"')),
        b'{"values":[{"featureId":1},%b,7]}' % observation(b"5"),
        b'{"values":[]}',
        b'{"values":null}',
    ),
}

# What may stand where a value is expected. Texts that are JSON, that are none, and that parsers differ about.
TEXTS: tuple[bytes, ...] = (
    b"0", b"-0", b"1e5", b"1E+2", b"-1.5e-3", b"123456789012345678901234567890", b"1e400", b"-1e400", b"1e-400",
    b"9007199254740993", b"9223372036854775807", b"18446744073709551616", b"0.1" + b"0" * 400, b"1" * 400, b"01",
    b"-", b"-01", b"+1", b".5", b"5.", b"1.e1", b"1e", b"1e+", b"0x1F", b"1_000", b"1 000", b"--1", b"2.-3",
    b"NaN", b"-NaN", b"nan", b"Infinity", b"-Infinity", b"Inf", b"1/2", "\uff11".encode(), b"true", b"True",
    b"nul", b"nullx", b"truefalse", b"undefined", b"", b" ", b"\x00", b"*", b'""', b'"\\u0000"', b'"\\uD800"',
    b'"\\uDC00"', b'"\\uD800\\uD800"', b'"\\uDEAD\\uD83D"', b'"\\ud83d\\ude39"', b'"\\x41"', b'"\\u00G0"',
    b'"\\u"', b'"\\"', b'"\\', b"'a'", b'"\t"', b'"\n"', b'"\x00"', b'"\x7f"', b'"\\/"', b'"\xff"',
    b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\xbf\xbf\xbf"', b'"\xe9"', b'"\xf0\x9f"', b"\xff\xfe1\x00",
    '"\u2028\u2029"'.encode(), '"\ufeff"'.encode(), b'"\\uFFFE\\uFFFF"', b'"' + b"x" * 300 + b'"', b"[]", b"[1,]",
    b"[,1]", b"[1,,2]", b"[1", b"1]", b"[1 2]", b"[1}", b"[[]", b"[" * 200 + b"]" * 200, b"[" * 900, b"{}",
    b'{"a":1,"a":2}', b'{"a":1,}', b'{"a"}', b'{"a":}', b"{a:1}", b"{1:1}", b'{"a" 1}', b"{null:1}", b'{"":0}',
    b"{" * 300, b'{"k":' * 100 + b"0" + b"}" * 100, b"1//", b"1/* */", b"# 1", b"1;", b"1,1", b"1\x0c", b"\x0b1",
)
# What may stand before or after a whole text.
AROUND: tuple[bytes, ...] = (
    b"\xef\xbb\xbf", b"\xff\xfe", b" ", b"\r\n\t ", b"\x00", b"}", b"{}", b",", b"#", b"\x1a",
)

HOSTS: tuple[bytes, ...] = (
    b"localhost:3001", b"localhost", b"LOCALHOST", b"127.0.0.1:1", b"[::1]:3001", b"[::1", b"a.b-c.d", b"a..b",
    b".", b"a.", b".a", b"a" * 63, b"a" * 64, b"a." * 40 + b"a", b"xn--", b"xn--a", b"a_b", b"-", b"a-", b"0",
    b"0x7f.1", b"a:", b"a:0", b"a:080", b"a:65536", b"a:99999", b"a:123456", b"a:-1", b"a:b", b"a:1:2", b":1",
    b"a:80", b"a:443", b"", b"a b", b"a,b", b"a/b", b"a?b", b"a#b", b"u@a", b"http://a", b"a\xe9", "é".encode(),
    b"a\x7f", b"a\x01", b"%61",
)
TYPES: tuple[bytes, ...] = (
    b"application/json", b"Application/JSON", b"application/json; charset=utf-8",
    b"application/json;charset=UTF-8", b"application/json;  charset=utf-8", b"application/json ; charset=utf-8",
    b'application/json; charset="utf-8"', b"application/json; charset=latin-1", b"application/json;",
    b"application/json; a=b", b"application/json, text/a", b"application/jsonp", b"text/json",
    b"application/x-ndjson", b"application/vnd.apache.arrow.stream", b"", b"json", b"application/json\xa0",
    b"multipart/form-data; boundary=a", b"application/x-www-form-urlencoded", b"a" * 300,
)
CONNECTIONS: tuple[bytes, ...] = (
    b"keep-alive", b"Keep-Alive", b"close", b"Close", b"keep-alive, close", b"close, keep-alive", b"keep-alive,",
    b"upgrade", b"keep-alive, Upgrade", b"Upgrade, HTTP2-Settings", b"TE", b"", b"content-length", b"x",
    b"keep-alive\t",
)
KEYS: tuple[bytes, ...] = (KEY, b"", b" ", b"a b\tc", b"x" * 255, b"x" * 256, b"\xe9", b"'\"\\{}", KEY + b",")


def lengths(exact: int) -> Sequence[bytes]:
    """Ways to say, or not quite to say, how long a body is."""
    text = b"%d" % exact
    forms = (b"%b", b"0%b", b"00%b", b"0000000000000%b", b"+%b", b"-%b", b"%b ", b"\t%b", b"%b, %b", b"%b,%b")
    odd = (b"%b.0", b"%be0", b"0x%b", b"%b;", b"%b,", b",%b", b"%b %b", b"'%b'", b"%b_0", b"%b\x0b")
    off = (exact - 1, exact + 1, exact + 40, 0, 4_096, 4_097, 10**9, 10**10, 2**31, 2**63, 2**64, 10**20, 10**21)
    said = [form.replace(b"%b", text) for form in (*forms, *odd)]
    return [*said, *(b"%d" % length for length in off), b"", b"%b, %d" % (text, exact + 1), "\uff11".encode()]


# Fields that a parser may stumble over, whole lines without their end.
LINES: tuple[bytes, ...] = (
    b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding:", b"Transfer-Encoding : chunked", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked\x0b", b"TE: trailers", b"Transfer_Encoding: chunked", b"Content_Length: 1",
    b"X: 1\nTransfer-Encoding: chunked", b"X: 1\rHost: b", b"Expect: 100-continue", b"expect: 100-Continue",
    b"Expect: 100-continue, x", b"Expect: nonesuch", b"Expect:", b"Upgrade: h2c", b"Upgrade: websocket",
    b"Upgrade: TLS/1.0", b"Upgrade:", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", b"Content-Encoding: gzip",
    b"Content-Encoding: identity", b"Accept: text/csv", b"Accept-Encoding: gzip, br", b"Cookie: a=b; session=x",
    b"Range: bytes=0-1", b"If-None-Match: *", b"If-Match: x", b"X-HTTP-Method-Override: GET",
    b"X-Forwarded-Host: evil", b"Forwarded: host=evil", b"X-Forwarded-Prefix: /x", b"Remote-Addr: 1.2.3.4",
    b"Script-Name: /x", b"Keep-Alive: timeout=1, max=1", b"Proxy-Connection: close", b"Trailer: Host",
    b"Date: x", b"Authorization: Basic x", b"Access-Control-Request-Method: GET", b"Origin: null",
    b"User-Agent: a (b; c) d/1.0", b"Accept:", b"X:", b"x:y:z", b"X: \xff\xfe", b"X: \x00", b"X: \x01",
    b"X: \x7f", b"X: a\x0bb", b"X: a\x0cb", b"X: a\x85b", b"X:\t \ta \t", b"X: " + b"y" * 900, b": x", b"X",
    b"X : y", b"X\t: y", b" X: y", b"\tX: y", b" folded", b"X Y: z", b"X(: y", b"\xe9: y", b"X\x00: y",
    b'"X": y', b"X: a\r\n folded", b"Content-Type: application/json\r\n ;charset=utf-8", b"Host: b",
    b"host: localhost:3001", b"HOST:", b"Content-Length: 0", b"Content-Type: text/plain",
    b"Content-Type: application/json", b"Connection: close", b"!#$%&'*+-.^_`|~09azAZ: all that a name may have",
    b"-: -", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
LARGE_LINES: tuple[bytes, ...] = (
    *(b"X: " + b"y" * size for size in (3_700, 3_800, 3_900, 4_000, 4_096, 9_000, 16_300, 17_000)),
    b"\r\n".join(b"X-%d: y" % n for n in range(300)),
)

METHODS: tuple[bytes, ...] = (
    b"POST", b"post", b"Post", b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"CONNECT",
    b"PRI", b"QUERY", b"P OST", b"", b" POST", b"POST\t", b"P\x00ST", b"M" * 300, b"\xffPOST", b"\r\nPOST",
    b"\nPOST", b"\r\n\r\nPOST",
)
TARGETS: tuple[bytes, ...] = (
    *HOT, b"/features/serve/", b"//features/serve", b"/features//serve", b"/features/./serve",
    b"/features/x/../serve", b"/features/serve?", b"/features/serve?a=b", b"/features/write-batch?partial=true",
    b"/features/write-batch?partial=no", b"/features/serve#x", b"/features/serve;x", b"/features/%73erve",
    b"/features/serve%20", b"/features/serve%2f", b"/Features/serve", b"http://localhost/features/serve",
    b"https://evil:1/features/write", b"http://", b"*", b"features/serve", b"", b"localhost:80",
    b"/features/serv", b"/features/write-batc", b"/features/writes", b"/features/write-", b"/",
    b"/features/\xe9", b"/features/%ff", b"/features/serve\x00", b"/features/serve ", b"/features/ser ve",
    b"/features/serve\t", b"/" + b"x" * 5_000, b"/features/%00",
)
VERSIONS: tuple[bytes, ...] = (
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/3.0", b"http/1.1", b"HTTP/1.10",
    b"HTTP/1", b"HTTP/01.1", b"HTTP/1,1", b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/1.1\t", b"HTTPS/1.1", b"ICE/1.0",
    b"", b"HTTP/1.\xb9", b"RTSP/1.1",
)
LINE_ENDS: tuple[bytes, ...] = (
    b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\x00", b"\x0b", b"\x85", b"\r\n\r\n",
)

# Bytes to be put anywhere into a request.
SPOILERS: tuple[bytes, ...] = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\x00", b" ", b"\t", b"\x0b", b"\x0c", b"\x1c",
    b"\x7f", b"\x80", b"\x85", b"\xa0", b"\xff", b":", b",", b";", b'"', b"{", b"}", b"0", b"9", b"POST ",
    b"HTTP/1.1", b"\x16\x03\x01", b"\xef\xbb\xbf",
)


def request(
    target: bytes, body: bytes, *lines: bytes, method: bytes = b"POST", version: bytes = b"HTTP/1.1"
) -> bytes:
    """A request that is as it should be, but for what is given."""
    fields = (
        b"Host: localhost:3001",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *lines,
    )
    return assemble(b"%b %b %b" % (method, target, version), fields, body)


def assemble(start: bytes, fields: Sequence[bytes], body: bytes, end: bytes = b"\r\n") -> bytes:
    """A request of the lines given."""
    return b"".join(line + end for line in (start, *fields, b"")) + body


def bare(method: bytes, target: bytes) -> bytes:
    """A request without a body."""
    return assemble(b"%b %b HTTP/1.1" % (method, target), (b"Host: localhost",), b"")


# Requests for the ordinary way: other routes and lanes, and what is not HTTP/1.
ORDINARY: tuple[bytes, ...] = (
    bare(b"GET", b"/health/live"),
    bare(b"HEAD", b"/health/live"),
    bare(b"GET", b"/features/a"),
    bare(b"GET", b"/nonesuch"),
    bare(b"OPTIONS", SERVE),
    bare(b"GET", SERVE),
    bare(b"DELETE", b"/features/user.x.v1"),
    bare(b"POST", SERVE),
    request(b"/features/historical", b'{"entityIds":["%b"],"features":["a"]}' % ENTITY),
    request(b"/nonesuch", b"{}"),
    request(b"/features/write-batch?partial=true", BODIES[BATCH][2]),
    request(SERVE, BODIES[SERVE][0], version=b"HTTP/1.0"),
    request(SERVE, BODIES[SERVE][0], b"Connection: close"),
    assemble(
        b"POST /features/serve HTTP/1.1",
        (b"Host: a", b"Content-Type: application/json", b"Transfer-Encoding: chunked"),
        b"%x;x=y\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODIES[SERVE][0]), BODIES[SERVE][0]),
    ),
    assemble(
        b"POST /features/write-batch HTTP/1.1",
        (b"Host: a", b"Content-Type: application/x-ndjson", b"Content-Length: %d" % len(observation())),
        observation(),
    ),
    assemble(
        b"GET /monitor/agreement HTTP/1.1",
        (
            b"Host: a",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: eA==",
        ),
        b"",
    ),
    assemble(
        b"GET /health/live HTTP/1.1",
        (
            b"Host: a",
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        ),
        b"",
    ),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"GET /health/live\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\r\n",
)
