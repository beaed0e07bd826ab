-- Set a policy object, count the version up and record the event. ARGV: field, value or '' to remove, event.
if ARGV[2] == '' then
  if redis.call('HDEL', key('policy'), ARGV[1]) == 0 then return 0 end
else
  redis.call('HSET', key('policy'), ARGV[1], ARGV[2])
end
redis.call('INCR', key('policyversion'))
record('', ARGV[3])
return 1
