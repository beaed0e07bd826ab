-- Extend leases that are still ours. ARGV: lane, channel, now by the queue's own clock, lease (ms), number, then delivery id
-- and token for each. Returns the delivery ids that were lost. The first write is one that maxmemory allows: work under way goes on.
-- A place in the lane is kept, never taken: a channel may have left while this was on its way, and nobody is called for a
-- lane that has a channel.
local lane, channel, expiry = ARGV[1], ARGV[2], tonumber(ARGV[3]) + tonumber(ARGV[4])
if redis.call('ZREM', key('chan', lane), channel) == 1 then redis.call('ZADD', key('chan', lane), expiry, channel) end
local lost = {}
for at = 6, 5 + 2 * tonumber(ARGV[5]), 2 do
  local did = ARGV[at]
  local id, k = split(did)
  local f = redis.call('HMGET', key('m', id), 'token:' .. k, 'state:' .. k)
  if f[1] == ARGV[at + 1] and f[2] == 'sending' then
    redis.call('ZADD', key('leases'), 'XX', expiry, did)
  else
    lost[#lost + 1] = did
  end
end
return lost
