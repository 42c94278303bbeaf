"""The server-side scripts. Each checks, then changes: Redis runs a script as one step, so nobody sees half of it.

Every script that writes carries the deadline of the lease it writes under and checks it against the server's own
clock: a run that lost its lease, however long it was frozen, can change nothing any more.
"""

from __future__ import annotations

# The marks by which a row says who wrote it begin with this where a materialization did.
RUN = "run:"
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
TAKE_LEASE = (
    _CLOCK
    + """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1]), holder} end
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

RELEASE_LEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# KEYS: row keys. ARGV: deadline ms, then for each row: the ms at which Redis may drop it ('' for never), the number
# of strings that follow, and those: field, value, ... A row is replaced whole. One that a push or a stream wrote stays
# where it is newer by (event, created). Gives the places, from 1, of the rows that were kept out so. A server that is
# out of memory refuses a script's first write alone, and DEL never: so the first is one that it does refuse.
WRITE_ROWS = (
    _UNDER_LEASE
    + f"""
local kept, at, first = {{}}, 2, true
for place, key in ipairs(KEYS) do
  local expires, count = ARGV[at], tonumber(ARGV[at + 1])
  local old = redis.call('HMGET', key, '_fs_writer', '_fs_event', '_fs_created')
  local newer = false
  if old[1] and string.sub(old[1], 1, {len(RUN)}) ~= '{RUN}' then
    local event, created = '', ''
    for i = at + 2, at + 1 + count, 2 do
      if ARGV[i] == '_fs_event' then event = ARGV[i + 1] elseif ARGV[i] == '_fs_created' then created = ARGV[i + 1] end
    end
    local old_event, old_created = old[2] or '', old[3] or ''
    newer = old_event > event or (old_event == event and old_created > created)
  end
  if newer then
    kept[#kept + 1] = place
  else
    if first then redis.call('HSET', key, '_fs_writer', '') end
    first = false
    redis.call('DEL', key)
    for i = at + 2, at + 1 + count, 2000 do
      redis.call('HSET', key, unpack(ARGV, i, math.min(i + 1999, at + 1 + count)))
    end
    if expires ~= '' then redis.call('PEXPIREAT', key, expires) end
  end
  at = at + 2 + count
end
return kept
"""
)

# KEYS: row keys. ARGV: deadline ms, then for each key the writer it was scanned with, or '*' for any materialization. A
# key goes only if it still is what was scanned; rows of a push or a stream stay. Gives the number deleted.
DELETE_ROWS = (
    _UNDER_LEASE
    + """
local deleted = 0
for i, key in ipairs(KEYS) do
  local writer = redis.call('HGET', key, '_fs_writer')
  if writer and (writer == ARGV[i + 1] or (ARGV[i + 1] == '*' and string.sub(writer, 1, 4) == 'run:')) then
    deleted = deleted + redis.call('DEL', key)
  end
end
return deleted
"""
)

# KEYS: a marker of a view, or the revision. ARGV: deadline ms, its new value.
SET_VALUE = (
    _UNDER_LEASE
    + """
return redis.call('SET', KEYS[1], ARGV[2])
"""
)

# KEYS: a marker of a view. ARGV: deadline ms, the value it must have, its new one. Gives 1, or 0 where it had another.
REPLACE_VALUE = (
    _UNDER_LEASE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
return 1
"""
)

# KEYS: the registry. ARGV: deadline ms, view, its JSON.
PUBLISH_VIEW = (
    _UNDER_LEASE
    + """
return redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
"""
)
