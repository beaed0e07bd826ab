-- Find deliveries of live messages that nobody will ever work on: they wait in no lane that is known to have work, or are
-- sent under no lease, or are held and not among the held. No move of ours leaves one so.
-- ARGV: now, most lost leases, whether to put them back (0 or 1), then the ids of messages.
-- Returns a list of {delivery id, number of recipients}.
local now, most, repair = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local astray = {}

local function has_place(did, state, lane)
  if state == 'sending' then return redis.call('ZSCORE', key('leases'), did) end
  if state == 'held' then return redis.call('ZSCORE', key('held'), did) end
  local due, first = redis.call('ZSCORE', key('lane', lane), did), redis.call('ZSCORE', key('lanes'), lane)
  return due and first and tonumber(first) <= tonumber(due)
end

local function due_at(m, did, state, lane) -- when it was due is lost with its lane, but for what has a time of its own
  local due = redis.call('ZSCORE', key('lane', lane), did)
  if due or state ~= 'scheduled' then return due or now end
  local f = redis.call('HMGET', m, 'scheduled_at', 'meta')
  return f[1] or cjson.decode(f[2]).scheduled_at
end

local function put_back(m, did, state, lane)
  if state == 'sending' then
    take_back(did, now, most)
  elseif state == 'held' then
    redis.call('ZADD', key('held'), now, did)
  else
    enlist(lane, did, due_at(m, did, state, lane))
  end
end

for at = 4, #ARGV do
  local m = key('m', ARGV[at])
  for k = 0, tonumber(redis.call('HGET', m, 'n') or '0') - 1 do
    local did = ARGV[at] .. '/' .. k
    local f = redis.call('HMGET', m, 'state:' .. k, 'lane:' .. k, 'to:' .. k)
    if f[1] ~= 'ended' and f[1] ~= 'cancelled' and not has_place(did, f[1], f[2]) then
      astray[#astray + 1] = { did, size(f[3]) }
      if repair then put_back(m, did, f[1], f[2]) end
    end
  end
end
if repair and #astray > 0 then wake() end
return astray
