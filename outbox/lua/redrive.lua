-- Put a held delivery back to work, at a person's word. ARGV: delivery id, now. Returns 1, or 0 when it is not held.
local did, now = ARGV[1], ARGV[2]
local id, k = split(did)
local m = key('m', id)
local f = redis.call('HMGET', m, 'state:' .. k, 'to:' .. k, 'lane:' .. k)
if f[1] ~= 'held' then return 0 end
redis.call('ZREM', key('held'), did)
redis.call('HSET', m, 'state:' .. k, 'queued', 'lost:' .. k, '0')
move('held', 'queued', size(f[2]))
enlist(f[3], did, now)
record(id, string.format('{"kind":"redriven","at":%s,"id":"%s","delivery":%s}', now, id, k))
wake()
return 1
