-- Put a message as the journals and the archive know it, in place of what an old queue may know.
-- ARGV: generation ('' leaves a known message as it is), now, id, meta, content, created (ms), scheduled_at (ms) or '',
--       complained (0 or 1), reaction or '', number of deliveries, then for each: lane, due, state, recipients, attempts, duplicate (0 or 1),
--       error, token, whether some recipients ended (0 or 1); number of outcomes, then recipient, state, JSON for each;
--       number of its accepted event, '' if that is the first to be told now; number of events, then each; number of
--       suppressions that came of it, then address and value for each. Returns 1, or 0 when it was left as it is.
local generation, now, id = ARGV[1], ARGV[2], ARGV[3]
local m = key('m', id)

local function clear() -- what an old queue knows: out of every index and sum
  for k = 0, tonumber(redis.call('HGET', m, 'n') or '0') - 1 do
    local f = redis.call('HMGET', m, 'state:' .. k, 'to:' .. k, 'lane:' .. k, 'error:' .. k)
    local did = id .. '/' .. k
    if f[2] ~= '' then count(f[1], -size(f[2])) end
    if f[1] == 'deferred' then blame(f[4], -size(f[2])) end
    redis.call('ZREM', key('lane', f[3]), did)
    redis.call('ZREM', key('leases'), did)
    redis.call('ZREM', key('held'), did)
    relist(f[3])
  end
  local fields = redis.call('HGETALL', m)
  for at = 1, #fields, 2 do
    local state = string.match(fields[at], '^r:%d+$') and cjson.decode(fields[at + 1])[1]
    if state and state ~= 'deferred' then count(state, -1) end
  end
  redis.call('ZREM', key('ended'), id)
  redis.call('ZREM', key('recent'), id)
  redis.call('DEL', m)
end

if redis.call('EXISTS', m) == 1 then
  if generation == '' or redis.call('HGET', m, 'rebuilt') == generation then return 0 end
  clear()
end

local n, live = tonumber(ARGV[10]), 0
redis.call('HSET', m, 'meta', ARGV[4], 'n', n, 'rebuilt', generation)
redis.call('SET', key('c', id), ARGV[5])
redis.call('ZADD', key('index'), ARGV[6], id)
if ARGV[7] ~= '' then redis.call('HSET', m, 'scheduled_at', ARGV[7]) end
if ARGV[8] == '1' then redis.call('HSET', m, 'complained', '1') end
if ARGV[9] ~= '' then redis.call('HSET', m, 'reaction', ARGV[9]) end
local at = 11
for k = 0, n - 1 do
  local lane, due, state, to = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  redis.call('HSET', m, 'lane:' .. k, lane, 'to:' .. k, to, 'state:' .. k, state, 'attempts:' .. k, ARGV[at + 4],
    'dup:' .. k, ARGV[at + 5], 'error:' .. k, ARGV[at + 6], 'token:' .. k, ARGV[at + 7])
  if ARGV[at + 8] == '1' then redis.call('HSET', m, 'partly', '1') end
  if to ~= '' then count(state, size(to)) end
  if state == 'held' then
    redis.call('ZADD', key('held'), now, id .. '/' .. k)
  elseif state ~= 'ended' and state ~= 'cancelled' then
    enlist(lane, id .. '/' .. k, due)
    if state == 'deferred' then blame(ARGV[at + 6], size(to)) end
  end
  if state ~= 'ended' and state ~= 'cancelled' then live = live + 1 end
  at = at + 9
end
redis.call('HSET', m, 'live', live)
if live == 0 then redis.call('ZADD', key('ended'), now, id) end
for _ = 1, tonumber(ARGV[at]) do
  redis.call('HSET', m, 'r:' .. ARGV[at + 1], ARGV[at + 3])
  if ARGV[at + 2] ~= 'deferred' then count(ARGV[at + 2], 1) end
  at = at + 3
end
local first = ARGV[at + 1]
at = at + 2
for i = at + 1, at + tonumber(ARGV[at]) do
  local number = record(id, ARGV[i])
  if first == '' then first = number end
end
redis.call('HSET', m, 'first', first)
at = at + tonumber(ARGV[at]) + 1
for i = at + 1, at + 2 * tonumber(ARGV[at]), 2 do suppress(ARGV[i], ARGV[i + 1], now) end
wake()
return 1
