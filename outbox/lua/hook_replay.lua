-- Let a webhook's message go out once more, whatever became of it. ARGV: webhook, message, now. Returns 1, 0 if unknown.
local m = key('hook', ARGV[1] .. ':m:' .. ARGV[2])
if redis.call('EXISTS', m) == 0 then return 0 end
redis.call('HSET', m, 'status', 'pending', 'tries', 0)
redis.call('HINCRBY', m, 'token', 1)
redis.call('ZADD', key('hook', ARGV[1] .. ':due'), ARGV[3], ARGV[2])
return 1
