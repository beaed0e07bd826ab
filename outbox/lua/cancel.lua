-- Cancel a message, if none of it is being sent and none of it has ended: the client wins or the worker does, never both.
-- ARGV: id, now, event. Returns 'cancelled', 'sending', 'ended' or 'unknown'.
local id, now = ARGV[1], ARGV[2]
local m = key('m', id)
local n = redis.call('HGET', m, 'n')
if not n then
  local brief = redis.call('HGET', m, 'brief')
  if not brief then return 'unknown' end
  return string.match(brief, '^%d+:c+:') and 'cancelled' or 'ended'
end
local cancelled = 0
for k = 0, n - 1 do
  local state = redis.call('HGET', m, 'state:' .. k)
  if state == 'sending' then return 'sending' end
  if state == 'cancelled' then cancelled = cancelled + 1 end
  if state == 'ended' then return 'ended' end
end
if cancelled == tonumber(n) then return 'cancelled' end
if redis.call('HEXISTS', m, 'partly') == 1 then return 'ended' end
for k = 0, n - 1 do
  local did = id .. '/' .. k
  local f = redis.call('HMGET', m, 'state:' .. k, 'to:' .. k, 'lane:' .. k, 'error:' .. k)
  redis.call('ZREM', key('lane', f[3]), did)
  redis.call('ZREM', key('held'), did)
  relist(f[3])
  if f[1] == 'deferred' then blame(f[4], -size(f[2])) end
  move(f[1], 'cancelled', size(f[2]))
  redis.call('HSET', m, 'state:' .. k, 'cancelled')
  finish(id, now)
end
record(id, ARGV[3])
return 'cancelled'
