-- Give claimed work back untried (a shutdown is not a failure: the attempt does not count).
-- ARGV: now, number of claims, then delivery id and token for each.
local now = ARGV[1]
for at = 3, 2 + 2 * tonumber(ARGV[2]), 2 do
  local did = ARGV[at]
  local id, k = split(did)
  local m = key('m', id)
  local f = redis.call('HMGET', m, 'token:' .. k, 'state:' .. k, 'lane:' .. k, 'to:' .. k)
  if f[1] == ARGV[at + 1] and f[2] == 'sending' then
    redis.call('ZREM', key('leases'), did)
    redis.call('HSET', m, 'state:' .. k, 'queued')
    move('sending', 'queued', size(f[4]))
    enlist(f[3], did, now)
    record(id, string.format('{"kind":"released","at":%s,"id":"%s","delivery":%s,"reason":"shutdown","possible_duplicate":false}', now, id, k))
  end
end
wake()
return 1
