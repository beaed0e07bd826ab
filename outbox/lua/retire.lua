-- Forget messages that ended before `cutoff` and were compacted, so that all there is of them is archived.
-- ARGV: cutoff, limit. Returns how many were forgotten.
local gone = redis.call('ZRANGEBYSCORE', key('recent'), '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #gone == 0 then return 0 end
local messages = {}
for at, id in ipairs(gone) do messages[at] = key('m', id) end
redis.call('UNLINK', unpack(messages))
redis.call('ZREM', key('recent'), unpack(gone))
redis.call('ZREM', key('index'), unpack(gone))
return #gone
