"""The function library that runs inside Redis, which stores and replicates it, and the layout of keys.

An entity has two keys, in one slot of a cluster:

    tw:{user:42}:n    hash: for each shape its newest row: event time, arrival, payload
    tw:{user:42}:h    sorted set with equal scores, so ordered by bytes: shape, event time, arrival, payload
    tw:{user:42}:e    what an erasure has removed, and when; for a minute

A shape is a set of features whose values are stored together in one row. Times and arrivals are eight bytes that
sort like the numbers. These keys, which begin with `tw:{timewell}`, are all in one other slot:

    :features :groups :catalogue :notes    hashes of records
    :versions                   hash: the versions of registry, notes and shapes; that of this layout (`form`)
    :arrived                    sorted set: the last arrival of all processes (`last`)
    :aged                       hash: the entity types of which a feature has ever had a retention age
    :forgotten                  hash: deleted features whose rows have yet to be removed, by creation
    :shapes :numbers            hashes: the number of each shape, and the shape of each number
    :wide                       hash: how many shapes of several features an entity type has
    :writers                    hash: the position of each writer in its statistics
    :batches:<w>                hash: the batches of a writer that its statistics do not cover yet, by arrival
    :leases                     hash: until when each writer counts as alive, in ms
    :windows:<feature>          hash: statistics by window
    :windowed                   set: the features that have statistics
    :leader :merging            the process that runs checks, the one that merges statistics; both expire

The ids of all entities, in parts (`known_ids.py`); `ids` of the versions tells that they are complete:

    tw:{ids/3}:user:ids         sorted set with equal scores

And one each for an idempotency key, in its own slot:

    tw:answer:{key}             the answer to the write with this key, or the writer that is working on it
    tw:claim:{key}              the process that has claimed the key

A function names all keys that it touches: while a cluster moves a slot to another node, some keys of the slot may
be there already, and only a call that names all its keys is sent to the node that has them, or told to try again.
"""

from __future__ import annotations

from collections.abc import Sequence

LIBRARY = "timewell2"
"""The name includes the version of the layout: processes of an earlier one lose their library when it is
changed."""

SOURCE = (
    f"#!lua name={LIBRARY}\n"
    """
local function number(text, from)
  local high, low = struct.unpack('>I4I4', text, from)
  return high, low
end

-- Whether one eight-byte time is at or after another. Lua compares strings by locale, and rounds large numbers.
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

-- keys: newest and history of each entity; args: ms to live (0: for ever, '': unchanged), then for each entity the
-- number of rows, and for each row its shape, time, oldest time to keep or '', payload.
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
      if newest and at_or_after(string.sub(newest, 9, 16), arrival) then
        arrival = string.sub(newest, 9, 16) -- the server's clock may have been set back
      end
      local is_newest = not newest or at_or_after(time, newest)
      if newest and at_or_after(newest, time) then
        -- May be a correction: each version has to arrive after the one before.
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

-- keys: newest, history; args: rows (shape, time, arrival, payload in one string) that keep their arrivals.
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

-- keys: newest, history, erased; args: `erased` when this was asked for. Returns each shape and how many rows it
-- had; if nothing is left, what another erasure has removed since then.
local function erase(keys, args)
  local found = {}
  for _, shape in ipairs(redis.call('HKEYS', keys[1])) do
    found[#found + 1] = shape
    found[#found + 1] = redis.call('ZLEXCOUNT', keys[2], '[' .. shape, '[' .. shape .. string.rep('\\255', 17))
  end
  redis.call('UNLINK', keys[1], keys[2])
  if not keys[3] then return found end
  if #found > 0 then
    redis.call('SET', keys[3], cmsgpack.pack({redis.call('TIME'), found}), 'PX', 60000)
    return found
  end
  local last = redis.call('GET', keys[3]) or ''
  if last == '' or last == args[1] then return found end
  return cmsgpack.unpack(last)[2]
end

-- keys: newest of each entity; args: shapes. Returns for each entity whether it has rows of one of the shapes.
local function have_rows(keys, args)
  local found = {}
  for entity, newest_key in ipairs(keys) do
    found[entity] = 0
    for _, shape in ipairs(args) do
      if redis.call('HEXISTS', newest_key, shape) == 1 then
        found[entity] = 1
        break
      end
    end
  end
  return found
end

-- keys: a set of ids; args: ids to add.
local function list(keys, args)
  for _, id in ipairs(args) do redis.call('ZADD', keys[1], 0, id) end
  return 1
end

-- keys: newest, history; args: shapes to delete.
local function drop(keys, args)
  for _, shape in ipairs(args) do
    redis.call('HDEL', keys[1], shape)
    redis.call('ZREMRANGEBYLEX', keys[2], '[' .. shape, '[' .. shape .. string.rep('\\255', 17))
  end
  return 1
end

-- keys: versions, then the hashes to change; args: the version that the change is based on, then for each change
-- the number of a hash, field, record ('' deletes). Returns the new version, or -1 if another change came first.
local function change(keys, args)
  if tonumber(redis.call('HGET', keys[1], 'registry') or '0') ~= tonumber(args[1]) then return -1 end
  for at = 2, #args, 3 do
    local hash = keys[1 + tonumber(args[at])]
    if args[at + 2] == '' then redis.call('HDEL', hash, args[at + 1])
    else redis.call('HSET', hash, args[at + 1], args[at + 2]) end
  end
  return redis.call('HINCRBY', keys[1], 'registry', 1)
end

-- keys: a hash; args: field, record ('' deletes).
local function put(keys, args)
  if args[2] == '' then redis.call('HDEL', keys[1], args[1])
  else redis.call('HSET', keys[1], args[1], args[2]) end
  return 1
end

-- keys: versions, notes; args: kind and key of a note, record ('' deletes).
local function note(keys, args)
  put({keys[2]}, args)
  return redis.call('HINCRBY', keys[1], 'notes', 1)
end

-- keys: versions, shapes, numbers, wide; args: a shape, how many its entity type may have (0: any), the entity
-- type. Returns the number of the shape, or 0 if there are too many.
local function shape(keys, args)
  local known = redis.call('HGET', keys[2], args[1])
  if known then return tonumber(known) end
  if args[2] ~= '0' then
    if tonumber(redis.call('HGET', keys[4], args[3]) or '0') >= tonumber(args[2]) then return 0 end
    redis.call('HINCRBY', keys[4], args[3], 1)
  end
  local made = redis.call('HINCRBY', keys[1], 'shapes', 1)
  redis.call('HSET', keys[2], args[1], made)
  redis.call('HSET', keys[3], made, args[1])
  return made
end

-- keys: the batches of a writer; args: arrival and content of each batch. Returns 0 if the writer no longer
-- exists. The field 0, which is no batch, exists as long as the writer does.
local function keep(keys, args)
  if redis.call('HEXISTS', keys[1], '0') == 0 then return 0 end
  for at = 1, #args, 2 do redis.call('HSET', keys[1], args[at], args[at + 1]) end
  return 1
end

-- keys: writers, merging, windowed, then the hashes of windows to change; args: writer, its new position or '',
-- token of the process that merges, then for each window the number of a hash, field, state ('' deletes).
-- Returns 0 if the writer no longer exists, -1 if the right to merge was lost, -2 if the position would go back.
local function save(keys, args)
  if redis.call('HEXISTS', keys[1], args[1]) == 0 then return 0 end
  if redis.call('GET', keys[2]) ~= args[3] then return -1 end
  local before = tonumber(redis.call('HGET', keys[1], args[1]))
  if args[2] ~= '' and before > tonumber(args[2]) then return -2 end
  for at = 4, #args, 3 do
    local hash = keys[3 + tonumber(args[at])]
    if args[at + 2] == '' then redis.call('HDEL', hash, args[at + 1])
    else redis.call('HSET', hash, args[at + 1], args[at + 2]) end
  end
  for at = 4, #keys do
    redis.call('SADD', keys[3], string.sub(keys[at], string.find(keys[at], '}:', 1, true) + 1))
  end
  if args[2] ~= '' then redis.call('HSET', keys[1], args[1], args[2]) end
  return 1
end

local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- keys: leases; args: a writer, ms to live (below 0: it is dead), '1' if it is a new writer. Returns 0 if it is
-- not new and no longer exists.
local function lease(keys, args)
  if args[3] ~= '1' and redis.call('HEXISTS', keys[1], args[1]) == 0 then return 0 end
  redis.call('HSET', keys[1], args[1], string.format('%.0f', milliseconds() + tonumber(args[2])))
  return 1
end

-- keys: leases. Returns the writers whose lease has expired.
local function dead(keys, args)
  local found, now = {}, milliseconds()
  local leases = redis.call('HGETALL', keys[1])
  for at = 1, #leases, 2 do
    if tonumber(leases[at + 1]) < now then found[#found + 1] = leases[at] end
  end
  return found
end

-- keys: writers, leases, the batches of a dead writer and of the adopting one; args: the dead writer, a moment not
-- before any batch of the adopting one. Moves what the dead writer has not counted to the other, with new
-- arrivals. Returns the last arrival assigned.
local function adopt(keys, args)
  local position, arrived = redis.call('HGET', keys[1], args[1]) or '0', tonumber(args[2])
  local ends = redis.call('HGET', keys[2], args[1])
  if not ends or tonumber(ends) >= milliseconds() then return args[2] end
  local left = redis.call('HKEYS', keys[3])
  table.sort(left, function(a, b) return tonumber(a) < tonumber(b) end)
  for _, field in ipairs(left) do
    if tonumber(field) > tonumber(position) then
      arrived = arrived + 1
      redis.call('HSET', keys[4], string.format('%.0f', arrived), redis.call('HGET', keys[3], field))
    end
  end
  redis.call('UNLINK', keys[3])
  redis.call('HDEL', keys[1], args[1])
  redis.call('HDEL', keys[2], args[1])
  return string.format('%.0f', arrived)
end

-- keys: the answer of an idempotency key; args: the answer, seconds to live.
local function answer(keys, args)
  redis.call('SET', keys[1], args[1], 'EX', args[2])
  return 1
end

-- The same functions with one more key and argument in front: versions, and the version of the registry that the
-- request was validated with. If the registry is of another version, nothing is done and 0 is returned.
local function judged(change)
  return function(keys, args)
    if (redis.call('HGET', table.remove(keys, 1), 'registry') or '0') ~= table.remove(args, 1) then return 0 end
    return change(keys, args)
  end
end

local judged_write, judged_keep, judged_answer = judged(write), judged(keep), judged(answer)
local judged_put, judged_list = judged(put), judged(list)

-- keys: what to acquire; args: token, ms to live. Returns whether the token has it now.
local function have(keys, args)
  local holder = redis.call('GET', keys[1])
  if holder and holder ~= args[1] then return 0 end
  redis.call('SET', keys[1], args[1], 'PX', args[2])
  return 1
end

-- keys: what to release; args: token.
local function release(keys, args)
  if redis.call('GET', keys[1]) == args[1] then redis.call('UNLINK', keys[1]) end
  return 1
end
"""
)


NAMES = (
    "write",
    "carry",
    "erase",
    "drop",
    "have_rows",
    "list",
    "judged_list",
    "change",
    "put",
    "note",
    "shape",
    "keep",
    "answer",
    "judged_write",
    "judged_keep",
    "judged_put",
    "judged_answer",
    "save",
    "lease",
    "dead",
    "adopt",
    "have",
    "release",
)


def library(names: Sequence[str]) -> str:
    """The source of the library, with the functions of these names registered."""
    return SOURCE + "".join(f"redis.register_function('{LIBRARY}_{name}', {name})\n" for name in names)


CODE = library(NAMES)
RETIRED = "#!lua name=timewell1\nredis.register_function('timewell1_retired', function() return 0 end)\n"
"""Takes the place of the previous library, so that processes of the earlier version find no functions, and do not
load theirs again."""
ROOT = b"tw:{timewell}"
VERSIONS, WRITERS, LEASES = (ROOT + name for name in (b":versions", b":writers", b":leases"))


def function(name: str) -> str:
    """The name of a function for FCALL."""
    return f"{LIBRARY}_{name}"
