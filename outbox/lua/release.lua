-- Give claimed work back untried (a shutdown is not a failure: the attempt does not count).
-- ARGV: now, number of claims, then delivery id and token for each.
for at = 3, 2 + 2 * tonumber(ARGV[2]), 2 do
  local id, k = split(ARGV[at])
  local f = redis.call('HMGET', key('m', id), 'token:' .. k, 'state:' .. k)
  if f[1] == ARGV[at + 1] and f[2] == 'sending' then give_back(ARGV[at], ARGV[1], 'shutdown') end
end
wake()
return 1
