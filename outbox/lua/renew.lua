-- Extend leases that are still ours. ARGV: lane, channel, now, lease (ms), number, then delivery id and token for each.
-- Returns the delivery ids that were lost.
local lane, channel, expiry = ARGV[1], ARGV[2], tonumber(ARGV[3]) + tonumber(ARGV[4])
redis.call('ZADD', key('chan', lane), expiry, channel)
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
