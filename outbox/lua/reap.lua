-- Take back work whose lease ran out, or all that a named worker held (it restarted, so it no longer sends it).
-- The next hop may have it already, so the next attempt is flagged. After too many lost leases it is held for a person.
-- ARGV: now, worker or '', most lost leases, limit. Returns how many were taken back.
local now, worker, most, limit = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lost
if worker == '' then
  lost = redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, limit)
else
  lost = redis.call('ZRANGE', key('leases'), 0, -1)
end

local function free_channels(lane)
  for _, channel in ipairs(redis.call('ZRANGE', key('chan', lane), 0, -1)) do
    if string.sub(channel, 1, #worker + 1) == worker .. '#' then redis.call('ZREM', key('chan', lane), channel) end
  end
end

local taken = 0
for _, did in ipairs(lost) do
  local id, k = split(did)
  local m = key('m', id)
  local f = redis.call('HMGET', m, 'owner:' .. k, 'lane:' .. k, 'to:' .. k)
  if worker == '' or f[1] == worker then
    taken = taken + 1
    redis.call('ZREM', key('leases'), did)
    if worker ~= '' then free_channels(f[2]) end
    local kind = '"released"'
    local reason = 'lease_expired'
    redis.call('HSET', m, 'dup:' .. k, '1')
    if redis.call('HINCRBY', m, 'lost:' .. k, 1) >= most then
      kind, reason = '"held"', 'leases_lost'
      redis.call('HSET', m, 'state:' .. k, 'held')
      move('sending', 'held', size(f[3]))
      redis.call('ZADD', key('held'), now, did)
    else
      redis.call('HSET', m, 'state:' .. k, 'queued')
      move('sending', 'queued', size(f[3]))
      enlist(f[2], did, now)
    end
    record(id, string.format('{"kind":%s,"at":%s,"id":"%s","delivery":%s,"reason":"%s","possible_duplicate":true}', kind, now, id, k, reason))
  end
end
if taken > 0 then wake() end
return taken
