-- Forget messages that ended before `cutoff` and were compacted, so that all there is of them is archived.
-- ARGV: cutoff, limit. Returns how many were forgotten.
local gone = redis.call('ZRANGEBYSCORE', key('recent'), '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(gone) do
  redis.call('UNLINK', key('m', id))
  redis.call('ZREM', key('recent'), id)
  redis.call('ZREM', key('index'), id)
end
return #gone
