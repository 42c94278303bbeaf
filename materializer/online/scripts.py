"""The server-side scripts. Each checks, then changes: Redis runs a script as one step, so nobody sees half of it.

Every script that writes carries the deadline of the lease it writes under and checks it against the server's own
clock: a run that lost its lease, however long it was frozen, can change nothing any more.
"""

from __future__ import annotations

# The marks by which a row says who wrote it begin so where a materialization did, and where a stream's evaluation did.
RUN, STREAM = "run:", "stream:"
LEASE_LOST = "FS_LEASE_LOST"

_CLOCK = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

_UNDER_LEASE = (
    _CLOCK
    + f"""
if now >= tonumber(ARGV[1]) then return redis.error_reply('{LEASE_LOST} the lease ended before this write') end
"""
)

# KEYS: the lease. ARGV: run id, length in ms. Gives {1, deadline ms} or {0, ms until the holder's lease ends, holder}.
# A key that holds no text names no holder.
TAKE_LEASE = (
    _CLOCK
    + """
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1]), holder} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, now + ARGV[2]}
"""
)

# As TAKE_LEASE, but only for the one who holds it: a lease that ended is not taken again.
RENEW_LEASE = (
    _CLOCK
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0, 0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, now + ARGV[2]}
"""
)

# KEYS: the lease. ARGV: run id. Gives the ms until which that run has it, 0 where it has it no more.
LEASE_ENDS = (
    _CLOCK
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return now + redis.call('PTTL', KEYS[1])
"""
)

RELEASE_LEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# `newer(key, before, writer, seen, over)`: whether a row stays, whose `_fs_writer` is `before`, where `writer` comes
# with the landing's number `seen`; nil for a plain push, of which its event time decides. At a tie a run wins over a
# stream. Where a run begins an epoch (`over`), numbers of before do not count.
_NEWER = f"""
local function by(mark, writer) return writer and string.sub(writer, 1, #mark) == mark end
local function newer(key, before, writer, seen, over)
  local run = by('{RUN}', before)
  local its = redis.call('HGET', key, '_fs_seen')
  if not (its or run or by('{STREAM}', before)) then return nil end
  its = tonumber(its or 0) or 0
  return not over and (its > seen or (its == seen and run and not by('{RUN}', writer)))
end
"""

# KEYS: row keys, each once. ARGV: deadline ms, the writer, the landing's number that it has seen ('' where the view
# reads no stream), '1' where a run begins an epoch, the number of fields, their names, then for each row: the ms at
# which Redis may drop it ('' for never), which fields it has ('' for all, else a '1' or '0' for each), and a value for
# each field. A row is replaced whole. A plain push's stays where it is newer by (event, created), another one where it
# is `newer`; without a number, all of runs and streams are replaced.
# Gives the places, from 1, of the rows that were kept out so, and negative ones of keys that were no hash and were
# replaced. Where no key is there yet, as one EXISTS for all of them tells, nothing is compared or deleted: that, and
# naming fields once, is what makes a first load fast. A server that is out of memory refuses a script's first write
# alone, and DEL never: so the first is one that it does refuse, whatever the key holds.
WRITE_ROWS = (
    _UNDER_LEASE
    + _NEWER
    + f"""
local call, writer, seen, width = redis.call, ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local first, step = 6 + width, 2 + width
local kept, stays, gone = {{}}, {{}}, {{}}
local function value(at, name)
  for i = 1, width do
    if ARGV[5 + i] == name then return string.sub(ARGV[at + 1], i, i) == '0' and '' or ARGV[at + 1 + i] end
  end
  return ''
end
local function older(key, at)
  local old, event = call('HMGET', key, '_fs_event', '_fs_created'), value(at, '_fs_event')
  local old_event = old[1] or ''
  return old_event > event or (old_event == event and (old[2] or '') > value(at, '_fs_created'))
end
if call('EXISTS', unpack(KEYS)) > 0 then
  for place, key in ipairs(KEYS) do
    local before = redis.pcall('HGET', key, '_fs_writer')
    if type(before) == 'table' then
      kept[#kept + 1] = -place
    elseif before then
      local stay
      if seen then
        stay = newer(key, before, writer, seen, ARGV[4] == '1')
      elseif string.sub(before, 1, {len(RUN)}) == '{RUN}' or by('{STREAM}', before) then
        stay = false
      end
      if stay == nil then stay = older(key, first + (place - 1) * step) end
      if stay then
        kept[#kept + 1] = place
        stays[place] = true
      end
    end
    if not stays[place] then gone[#gone + 1] = key end
  end
  if #gone > 0 then
    call('SET', gone[1], '')
    call('DEL', unpack(gone))
  end
end
local whole, base = {{'HSET', '', '_fs_writer', writer}}, 4
if seen then whole[5], whole[6], base = '_fs_seen', ARGV[3], 6 end
for i = 1, width do whole[base - 1 + 2 * i] = ARGV[5 + i] end
local size = base + 2 * width
local function set(command, size)
  if size <= 4000 then return call(unpack(command, 1, size)) end
  for i = 3, size, 2000 do call('HSET', command[2], unpack(command, i, math.min(i + 1999, size))) end
end
local at = first
for place, key in ipairs(KEYS) do
  if not stays[place] then
    local has = ARGV[at + 1]
    if has == '' then
      whole[2] = key
      for i = 1, width do whole[base + 2 * i] = ARGV[at + 1 + i] end
      set(whole, size)
    else
      local part, n = {{unpack(whole, 1, base)}}, base
      part[2] = key
      for i = 1, width do
        if string.byte(has, i) == 49 then
          part[n + 1], part[n + 2] = ARGV[5 + i], ARGV[at + 1 + i]
          n = n + 2
        end
      end
      set(part, n)
    end
    if ARGV[at] ~= '' then call('PEXPIREAT', key, ARGV[at]) end
  end
  at = at + step
end
return kept
"""
)

# KEYS: row keys. ARGV: deadline ms, the writer, the landing's number that it has seen, '1' where a run begins an epoch,
# how many ms the tombstone stays. In place of each row, or of none, comes a tombstone: the writer and its number, and
# nothing else, so that what was computed before cannot come back. Gives the number of rows that went, then the places,
# from 1, of the keys that were kept because what is there is `newer`. What a plain push wrote stays.
REMOVE_ROWS = (
    _UNDER_LEASE
    + _NEWER
    + """
local call, writer, seen = redis.call, ARGV[2], tonumber(ARGV[3])
local answer = {0}
for place, key in ipairs(KEYS) do
  local kind = call('TYPE', key).ok
  local row, stays = kind ~= 'none', false
  if kind == 'hash' then
    row = call('HEXISTS', key, '_fs_event') == 1 or call('HEXISTS', key, '_fs_due') == 1
    stays = newer(key, call('HGET', key, '_fs_writer'), writer, seen, ARGV[4] == '1')
  end
  if stays then
    answer[#answer + 1] = place
  elseif stays == false then
    if row then answer[1] = answer[1] + 1 end
    if kind ~= 'none' then call('DEL', key) end
    call('HSET', key, '_fs_writer', writer, '_fs_seen', ARGV[3])
    call('PEXPIRE', key, ARGV[5])
  end
end
return answer
"""
)

# KEYS: row keys. ARGV: the mark of a run, the greatest number of the landing that counts ('' for any). Gives key,
# writer, ... of those that another materialization wrote, or a stream. A tombstone is no row.
OTHER_ROWS = f"""
local found = {{}}
for _, key in ipairs(KEYS) do
  local writer = redis.pcall('HGET', key, '_fs_writer')
  if type(writer) == 'string' and writer ~= ARGV[1]
      and (string.sub(writer, 1, {len(RUN)}) == '{RUN}' or string.sub(writer, 1, {len(STREAM)}) == '{STREAM}')
      and redis.call('HLEN', key) - redis.call('HEXISTS', key, '_fs_seen') > 1
      and (ARGV[2] == '' or tonumber(redis.call('HGET', key, '_fs_seen') or 0) <= tonumber(ARGV[2])) then
    found[#found + 1] = key
    found[#found + 1] = writer
  end
end
return found
"""

# KEYS: row keys. ARGV: deadline ms, then for each key the writer it was scanned with, or '*' for any materialization. A
# key goes only if it still is what was scanned; rows of a push or a stream stay, and what is no hash goes with '*'.
# Gives the number deleted.
DELETE_ROWS = (
    _UNDER_LEASE
    + """
local deleted = 0
for i, key in ipairs(KEYS) do
  local writer = redis.pcall('HGET', key, '_fs_writer')
  local ours = type(writer) == 'table' or (writer and string.sub(writer, 1, 4) == 'run:')
  if (ours and ARGV[i + 1] == '*') or (type(writer) == 'string' and writer == ARGV[i + 1]) then
    deleted = deleted + redis.call('DEL', key)
  end
end
return deleted
"""
)

# KEYS: a marker of a view, or the revision. ARGV: deadline ms, its new value.
SET_VALUE = _UNDER_LEASE + "return redis.call('SET', KEYS[1], ARGV[2])"

# KEYS: a marker of a view. ARGV: deadline ms, the value it must have, its new one. Gives 1, or 0 where it had another.
REPLACE_VALUE = (
    _UNDER_LEASE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
return 1
"""
)

# KEYS: the registry. ARGV: view, its JSON as it was read, its new one. Gives 1, or 0 where it was another.
REPLACE_VIEW = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

# KEYS: the registry. ARGV: deadline ms, view, its JSON.
PUBLISH_VIEW = _UNDER_LEASE + "return redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])"

# KEYS: the stream's record of a view. ARGV: the definition. Gives the server's time in ms where the record is settled
# and of this definition, else 0.
STREAM_HELD = (
    _CLOCK
    + """
local text = redis.pcall('GET', KEYS[1])
local known, record = pcall(cjson.decode, text)
if not known or type(record) ~= 'table' or record.settled ~= true or record.definition ~= ARGV[1] then return 0 end
return now
"""
)

# KEYS: the stream's record of a view. ARGV: the definition, the new record. Sets it where there is none, or one that is
# settled and of this definition. Gives 1, or 0.
TAKE_STREAM = """
local text = redis.pcall('GET', KEYS[1])
if text then
  local known, record = pcall(cjson.decode, text)
  if not known or type(record) ~= 'table' or record.settled ~= true or record.definition ~= ARGV[1] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
