-- Take due messages of a webhook: until `lease` is over nobody else has them. ARGV: webhook, now, lease (ms), limit.
-- Returns a list of {message, token, tries so far, body}. The first write is one that maxmemory allows.
local hook, now = ARGV[1], tonumber(ARGV[2])
local due = key('hook', hook .. ':due')
local claims = {}
for _, message in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[4])) do
  local m = key('hook', hook .. ':m:' .. message)
  local f = redis.call('HMGET', m, 'tries', 'body')
  if f[2] then
    redis.call('ZREM', due, message)
    redis.call('ZADD', due, now + ARGV[3], message)
    redis.call('HSET', m, 'status', 'attempting')
    claims[#claims + 1] = { message, redis.call('HINCRBY', m, 'token', 1), f[1], f[2] }
  else
    redis.call('ZREM', due, message)
    redis.call('ZREM', key('hook', hook .. ':open'), message)
  end
end
return claims
