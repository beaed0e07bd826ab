-- Put a claimed delivery aside for a person: it must not be sent as it is.
-- ARGV: delivery id, token, now, reason. Returns 1, or 0 for a stale token.
local did, token, now, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local id, k = split(did)
local m = key('m', id)
local f = redis.call('HMGET', m, 'token:' .. k, 'state:' .. k, 'to:' .. k)
if f[1] ~= token or f[2] ~= 'sending' then return 0 end
redis.call('ZREM', key('leases'), did)
redis.call('HSET', m, 'state:' .. k, 'held')
move('sending', 'held', size(f[3]))
redis.call('ZADD', key('held'), now, did)
note('held', id, k, now, reason, false, f[3])
return 1
