-- Move a message that is still scheduled. ARGV: id, new due, event. Returns 'rescheduled', 'not_scheduled' or 'unknown'.
local id, due = ARGV[1], ARGV[2]
local m = key('m', id)
local n = redis.call('HGET', m, 'n')
if not n then return redis.call('EXISTS', m) == 1 and 'not_scheduled' or 'unknown' end
for k = 0, n - 1 do
  if redis.call('HGET', m, 'state:' .. k) ~= 'scheduled' then return 'not_scheduled' end
end
for k = 0, n - 1 do
  local lane = redis.call('HGET', m, 'lane:' .. k)
  redis.call('ZADD', key('lane', lane), due, id .. '/' .. k)
  relist(lane)
end
redis.call('HSET', m, 'scheduled_at', due)
record(id, ARGV[3])
wake()
return 'rescheduled'
