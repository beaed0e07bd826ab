-- Set a policy object, count the version up and record the event. ARGV: field, value or '' to remove, event, and where
-- the change was made from a value that was read: that value, '' for none. -1: it is another one by now, nothing was done.
if ARGV[4] and (redis.call('HGET', key('policy'), ARGV[1]) or '') ~= ARGV[4] then return -1 end
if ARGV[2] == '' then
  if redis.call('HDEL', key('policy'), ARGV[1]) == 0 then return 0 end
else
  redis.call('HSET', key('policy'), ARGV[1], ARGV[2])
end
redis.call('INCR', key('policyversion'))
record('', ARGV[3])
return 1
