"""What Redis decides by itself: a library of functions, which it keeps and replicates, and the keys they work on.

An entity has two keys, in one slot of a cluster:

    tw:{user:42}:n    hash: by shape its newest row: event time, arrival, payload
    tw:{user:42}:h    sorted set of equal scores, so in order of bytes: shape, event time, arrival, payload

Times and arrivals are eight bytes that sort as the numbers do. Everything else is in the slot of `tw:{timewell}`:

    :features :groups :notes    hashes of records
    :versions                   hash: how often registry, notes and shapes have been changed; the form of it all
    :arrived                    sorted set: what the last arrival of all processes is (`last`)
    :aged                       hash: the entity types of which a feature has ever had a retention age
    :shapes :numbers            hashes: the number of a shape, and the shape of a number
    :writers :batches:<w>       the position of each writer; what its statistics do not cover, by arrival
    :windows:<feature>          hash: statistics by window
    :windowed                   set: the features that have some
    :lease:<w> :leader :merging who is a writer, who runs the checks, who merges statistics; with a time to live
    tw:answer:{key}             what was answered to an idempotency key
"""

from __future__ import annotations

LIBRARY = "timewell1"
"""The name has the version: a newer library comes beside an older one, so that processes of both may run."""

SOURCE = (
    f"#!lua name={LIBRARY}\n"
    """
local function number(text, from)
  local high, low = struct.unpack('>I4I4', text, from)
  return high, low
end

-- Whether one time of eight bytes is at or after another. Lua compares strings by locale and rounds large numbers.
local function at_or_after(one, other)
  local high1, low1 = number(one, 1)
  local high2, low2 = number(other, 1)
  return high1 > high2 or (high1 == high2 and low1 >= low2)
end

local function packed(seconds, micros)
  -- seconds * 1e6 + micros + 2^63: below 2^53 all of it is exact
  local whole = seconds * 1000000 + micros
  local high = math.floor(whole / 4294967296)
  return struct.pack('>I4I4', high + 2147483648, whole - high * 4294967296)
end

local function next_after(arrival)
  local high, low = number(arrival, 1)
  if low == 4294967295 then return struct.pack('>I4I4', high + 1, 0) end
  return struct.pack('>I4I4', high, low + 1)
end

-- keys: newest and history of each entity; args: ms to live (0: for ever, '': as it is), then for each entity how
-- many rows, and for each row its shape, time, oldest time to keep or '', payload.
local function write(keys, args)
  local clock = redis.call('TIME')
  local now = packed(tonumber(clock[1]), tonumber(clock[2]))
  local life, at = args[1], 2
  for entity = 1, #keys, 2 do
    local newest_key, history = keys[entity], keys[entity + 1]
    local last = at + 4 * tonumber(args[at])
    at = at + 1
    while at < last do
      local shape, time, cut, payload = args[at], args[at + 1], args[at + 2], args[at + 3]
      at = at + 4
      local arrival = now
      local newest = redis.call('HGET', newest_key, shape)
      local is_newest = not newest or at_or_after(time, newest)
      if newest and at_or_after(newest, time) then
        -- Not the first of its time, maybe: each version arrives after the one before.
        local before = redis.call('ZREVRANGEBYLEX', history, '[' .. shape .. time .. string.rep('\\255', 9),
          '[' .. shape .. time, 'LIMIT', 0, 1)[1]
        if before then
          local known = string.sub(before, 13, 20)
          if at_or_after(known, arrival) then arrival = next_after(known) end
        end
      end
      local row = time .. arrival .. payload
      if is_newest then redis.call('HSET', newest_key, shape, row) end
      redis.call('ZADD', history, 0, shape .. row)
      if cut ~= '' then redis.call('ZREMRANGEBYLEX', history, '[' .. shape, '(' .. shape .. cut) end
    end
    if life == '0' then
      redis.call('PERSIST', newest_key)
      redis.call('PERSIST', history)
    elseif life ~= '' then
      redis.call('PEXPIRE', newest_key, life)
      redis.call('PEXPIRE', history, life)
    end
  end
  return 1
end

-- keys: newest, history; args: rows (shape, time, arrival, payload in one) that keep their arrivals.
local function carry(keys, args)
  for _, row in ipairs(args) do
    local shape, time = string.sub(row, 1, 4), string.sub(row, 5, 12)
    local newest = redis.call('HGET', keys[1], shape)
    if not newest or at_or_after(string.sub(row, 5, 12), newest) then
      local same = newest and string.sub(newest, 1, 8) == time
      if not same or at_or_after(string.sub(row, 13, 20), string.sub(newest, 9, 16)) then
        redis.call('HSET', keys[1], shape, string.sub(row, 5))
      end
    end
    redis.call('ZADD', keys[2], 0, row)
  end
  return 1
end

-- keys: newest, history. Returns each shape with how many rows it had.
local function erase(keys, args)
  local found = {}
  for _, shape in ipairs(redis.call('HKEYS', keys[1])) do
    found[#found + 1] = shape
    found[#found + 1] = redis.call('ZLEXCOUNT', keys[2], '[' .. shape, '[' .. shape .. string.rep('\\255', 17))
  end
  redis.call('UNLINK', keys[1], keys[2])
  return found
end

-- keys: newest, history; args: shapes that are to go.
local function drop(keys, args)
  for _, shape in ipairs(args) do
    redis.call('HDEL', keys[1], shape)
    redis.call('ZREMRANGEBYLEX', keys[2], '[' .. shape, '[' .. shape .. string.rep('\\255', 17))
  end
  return 1
end

-- keys: tw:{timewell}; args: the version this was judged by, then: which hash, field, record ('' deletes), ...
-- Returns the version from now on, or -1 where another was first.
local function change(keys, args)
  local root = keys[1]
  if tonumber(redis.call('HGET', root .. ':versions', 'registry') or '0') ~= tonumber(args[1]) then return -1 end
  for at = 2, #args, 3 do
    if args[at + 2] == '' then redis.call('HDEL', root .. args[at], args[at + 1])
    else redis.call('HSET', root .. args[at], args[at + 1], args[at + 2]) end
  end
  return redis.call('HINCRBY', root .. ':versions', 'registry', 1)
end

-- keys: tw:{timewell}; args: kind and key of a note, record ('' deletes).
local function note(keys, args)
  local root = keys[1]
  if args[2] == '' then redis.call('HDEL', root .. ':notes', args[1])
  else redis.call('HSET', root .. ':notes', args[1], args[2]) end
  return redis.call('HINCRBY', root .. ':versions', 'notes', 1)
end

-- keys: tw:{timewell}; args: a shape, the most there may be of its type (0: any number), its type.
-- Returns its number, or 0 where there shall be no more.
local function shape(keys, args)
  local root = keys[1]
  local known = redis.call('HGET', root .. ':shapes', args[1])
  if known then return tonumber(known) end
  if args[2] ~= '0' then
    if tonumber(redis.call('HGET', root .. ':wide', args[3]) or '0') >= tonumber(args[2]) then return 0 end
    redis.call('HINCRBY', root .. ':wide', args[3], 1)
  end
  local made = redis.call('HINCRBY', root .. ':versions', 'shapes', 1)
  redis.call('HSET', root .. ':shapes', args[1], made)
  redis.call('HSET', root .. ':numbers', made, args[1])
  return made
end

-- keys: tw:{timewell}; args: writer, then arrival and blob of each batch. Returns 0 where it is none any more.
local function keep(keys, args)
  local root = keys[1]
  if redis.call('HEXISTS', root .. ':writers', args[1]) == 0 then return 0 end
  for at = 2, #args, 2 do redis.call('HSET', root .. ':batches:' .. args[1], args[at], args[at + 1]) end
  return 1
end

-- keys: tw:{timewell}; args: writer, position, token of who merges, then: hash, field, state of each window.
local function save(keys, args)
  local root = keys[1]
  if redis.call('HEXISTS', root .. ':writers', args[1]) == 0 then return 0 end
  if redis.call('GET', root .. ':merging') ~= args[3] then return -1 end
  local before = tonumber(redis.call('HGET', root .. ':writers', args[1]))
  if args[2] ~= '' and before > tonumber(args[2]) then return -2 end
  for at = 4, #args, 3 do
    if args[at + 2] == '' then redis.call('HDEL', root .. args[at], args[at + 1])
    else redis.call('HSET', root .. args[at], args[at + 1], args[at + 2]) end
    redis.call('SADD', root .. ':windowed', args[at])
  end
  if args[2] ~= '' then redis.call('HSET', root .. ':writers', args[1], args[2]) end
  return 1
end

-- keys: tw:{timewell}; args: a new writer, ms to live, a moment later than all so far. Takes over dead writers.
local function lease(keys, args)
  local root = keys[1]
  local arrived = tonumber(args[3])
  redis.call('HSET', root .. ':writers', args[1], string.format('%.0f', arrived))
  redis.call('SET', root .. ':lease:' .. args[1], '1', 'PX', args[2])
  for _, other in ipairs(redis.call('HKEYS', root .. ':writers')) do
    if redis.call('EXISTS', root .. ':lease:' .. other) == 0 then
      local position = tonumber(redis.call('HGET', root .. ':writers', other))
      local left = redis.call('HKEYS', root .. ':batches:' .. other)
      table.sort(left, function(a, b) return tonumber(a) < tonumber(b) end)
      for _, field in ipairs(left) do
        if tonumber(field) > position then
          arrived = arrived + 1
          redis.call('HSET', root .. ':batches:' .. args[1], string.format('%.0f', arrived),
            redis.call('HGET', root .. ':batches:' .. other, field))
        end
      end
      redis.call('UNLINK', root .. ':batches:' .. other)
      redis.call('HDEL', root .. ':writers', other)
    end
  end
  return string.format('%.0f', arrived)
end

-- keys: tw:{timewell}. Whether a writer is dead.
local function dead(keys, args)
  for _, writer in ipairs(redis.call('HKEYS', keys[1] .. ':writers')) do
    if redis.call('EXISTS', keys[1] .. ':lease:' .. writer) == 0 then return 1 end
  end
  return 0
end

-- keys: tw:{timewell}; args: writer, ms. Whether it still is one.
local function renew(keys, args)
  if redis.call('HEXISTS', keys[1] .. ':writers', args[1]) == 0 then return 0 end
  redis.call('SET', keys[1] .. ':lease:' .. args[1], '1', 'PX', args[2])
  return 1
end

-- keys: tw:{timewell}; args: what is wanted, token, ms. Whether the token has it now.
local function have(keys, args)
  local key = keys[1] .. args[1]
  local holder = redis.call('GET', key)
  if holder and holder ~= args[2] then return 0 end
  redis.call('SET', key, args[2], 'PX', args[3])
  return 1
end

-- keys: tw:{timewell}; args: what, token.
local function release(keys, args)
  if redis.call('GET', keys[1] .. args[1]) == args[2] then redis.call('UNLINK', keys[1] .. args[1]) end
  return 1
end
"""
)


def _registered() -> str:
    names = [
        "write",
        "carry",
        "erase",
        "drop",
        "change",
        "note",
        "shape",
        "keep",
        "save",
        "lease",
        "dead",
        "renew",
        "have",
        "release",
    ]
    return SOURCE + "".join(f"redis.register_function('{LIBRARY}_{name}', {name})\n" for name in names)


CODE = _registered()
ROOT = b"tw:{timewell}"


def function(name: str) -> str:
    """What FCALL calls it."""
    return f"{LIBRARY}_{name}"
