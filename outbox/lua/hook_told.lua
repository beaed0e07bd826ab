-- For each webhook the last event up to which nothing is waiting any more. Returns {webhook, number, ...}.
local told = {}
local hooks = redis.call('HGETALL', key('hooks'))
for at = 1, #hooks, 2 do
  local oldest = redis.call('ZRANGE', key('hook', hooks[at] .. ':open'), 0, 0, 'WITHSCORES')[2]
  told[at], told[at + 1] = hooks[at], math.min(tonumber(hooks[at + 1]), tonumber(oldest or hooks[at + 1]))
end
return told
