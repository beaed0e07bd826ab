-- Record how an attempt at a webhook's message ended. A token that is not the newest changes nothing.
-- ARGV: webhook, message, token, now, status (success, pending or failed), when it is due again or '', attempt as JSON,
-- most attempts kept. Returns since when all attempts of the webhook have failed (ms), 0 if they have not, -1 if stale.
local hook, message, status = ARGV[1], ARGV[2], ARGV[5]
local m, failing = key('hook', hook .. ':m:' .. message), key('hook', hook .. ':failing')
if redis.call('HGET', m, 'token') ~= ARGV[3] then return -1 end
redis.call('ZREM', key('hook', hook .. ':due'), message) -- a write that maxmemory allows
redis.call('HINCRBY', m, 'tries', 1)
redis.call('HSET', m, 'status', status)
if status == 'pending' then
  redis.call('ZADD', key('hook', hook .. ':due'), ARGV[6], message)
else
  redis.call('ZREM', key('hook', hook .. ':open'), message)
end
redis.call('RPUSH', key('hook', hook .. ':a:' .. message), ARGV[7])
redis.call('LTRIM', key('hook', hook .. ':a:' .. message), -ARGV[8], -1)
if status == 'success' then
  redis.call('DEL', failing)
  return 0
end
redis.call('SET', failing, ARGV[4], 'NX')
return tonumber(redis.call('GET', failing))
