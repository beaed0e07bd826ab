-- Forget a webhook's messages, a bounded number at a time. ARGV: webhook, limit. Returns how many are left.
local hook = ARGV[1]
local all = key('hook', hook .. ':all')
redis.call('HDEL', key('hooks'), hook)
redis.call('UNLINK', key('hook', hook .. ':due'), key('hook', hook .. ':open'), key('hook', hook .. ':failing'))
for _, message in ipairs(redis.call('ZRANGE', all, 0, ARGV[2] - 1)) do
  redis.call('UNLINK', key('hook', hook .. ':m:' .. message), key('hook', hook .. ':a:' .. message))
  redis.call('ZREM', all, message)
end
return redis.call('ZCARD', all)
