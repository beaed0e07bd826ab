-- Take an address off the suppression list. ARGV: address, id, now. Returns 1, or 0 when it was not there under this id.
local value = redis.call('HGET', key('suppressed'), ARGV[1])
if not value or string.match(value, '"id":"([^"]+)"') ~= ARGV[2] then return 0 end
redis.call('HDEL', key('suppressed'), ARGV[1])
redis.call('ZREM', key('suppressions'), ARGV[2] .. ':' .. ARGV[1])
tell_suppression(ARGV[1], 'null', ARGV[3], value)
return 1
