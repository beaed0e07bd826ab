-- Forget messages that ended before `cutoff` and whose every event is archived. ARGV: cutoff, archived number, limit.
-- Returns how many were forgotten.
local archived, gone = tonumber(ARGV[2]), 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('ended'), '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  if tonumber(redis.call('HGET', key('m', id), 'last') or '0') <= archived then
    redis.call('UNLINK', key('m', id), key('c', id))
    redis.call('ZREM', key('ended'), id)
    redis.call('ZREM', key('index'), id)
    gone = gone + 1
  end
end
return gone
