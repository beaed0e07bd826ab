-- Give a webhook its place in the events: the newest one, so that it hears what comes. ARGV: webhook, 1 to move one that has
-- a place already, or 0. Returns the place.
local hooks, hook = key('hooks'), ARGV[1]
local place = redis.call('HGET', hooks, hook)
if not place or ARGV[2] == '1' then
  place = redis.call('GET', key('seq')) or '0'
  redis.call('HSET', hooks, hook, place)
end
return tonumber(place)
