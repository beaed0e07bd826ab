-- Take messages for a webhook and move its place in the events, if that is still where the caller read on from.
-- ARGV: webhook, old place, new place, now, most messages kept, then for each: message, type, at, body.
-- Returns 1, or 0 when another was quicker or the webhook is gone. A known message is left as it is: its event was told
-- again. Of the oldest beyond the most, those that are not waiting go.
local hook, now = ARGV[1], ARGV[4]
local due, all = key('hook', hook .. ':due'), key('hook', hook .. ':all')
if redis.call('HGET', key('hooks'), hook) ~= ARGV[2] then return 0 end
for at = 6, #ARGV, 4 do
  local m = key('hook', hook .. ':m:' .. ARGV[at])
  if redis.call('EXISTS', m) == 0 then
    redis.call('HSET', m, 'type', ARGV[at + 1], 'at', ARGV[at + 2], 'body', ARGV[at + 3], 'status', 'pending', 'tries', 0)
    redis.call('ZADD', all, ARGV[at + 2], ARGV[at])
    redis.call('ZADD', due, now, ARGV[at])
    redis.call('ZADD', key('hook', hook .. ':open'), ARGV[2], ARGV[at])
  end
end
redis.call('HSET', key('hooks'), hook, ARGV[3])
local surplus = redis.call('ZCARD', all) - tonumber(ARGV[5])
if surplus > 0 then
  for _, message in ipairs(redis.call('ZRANGE', all, 0, 2 * surplus)) do
    if surplus > 0 and not redis.call('ZSCORE', due, message) then
      redis.call('UNLINK', key('hook', hook .. ':m:' .. message), key('hook', hook .. ':a:' .. message))
      redis.call('ZREM', all, message)
      surplus = surplus - 1
    end
  end
end
return 1
