-- Shared by every script (prepended by outbox/scripts.py). KEYS[1] is the prefix, e.g. {nm}: one hash tag, one slot.
-- Keys: m:<id> message hash, c:<id> content, lane:<lane> waiting work by due time, lanes each lane's next due time,
-- leases claims by expiry, chan:<lane> connections at work, states and errors counts of recipients, ended, held, index,
-- events the stream (id <number>-0, numbers consecutive), seq its newest number, in:<t> and out:<t> flow, wake.
-- In a message hash: meta, live, n (deliveries), last (newest event), and per delivery k: lane:k to:k state:k token:k
-- attempts:k owner:k error:k lost:k dup:k, partly (some recipients ended, others wait); per recipient i: r:i, its last outcome as JSON.
local P = KEYS[1]

local function key(name, tail)
  if tail then return P .. ':' .. name .. ':' .. tail end
  return P .. ':' .. name
end

local function split(did) -- "<id>/<k>"
  return string.match(did, '^(.*)/(%d+)$')
end

local function size(csv)
  local _, commas = string.gsub(csv, ',', '')
  return commas + 1
end

local function count(state, n)
  redis.call('HINCRBY', key('states'), state, n)
end

local function move(from, to, n)
  count(from, -n)
  count(to, n)
end

local function blame(error, n) -- recipients deferred by this error, for the backlog
  if error and error ~= '' then
    if redis.call('HINCRBY', key('errors'), error, n) <= 0 then redis.call('HDEL', key('errors'), error) end
  end
end

local function wake()
  if redis.call('LLEN', key('wake')) < 16 then redis.call('LPUSH', key('wake'), '1') end
end

local function enlist(lane, did, due)
  redis.call('ZADD', key('lane', lane), due, did)
  local first = redis.call('ZSCORE', key('lanes'), lane)
  if not first or tonumber(first) > tonumber(due) then redis.call('ZADD', key('lanes'), due, lane) end
end

local function relist(lane) -- after work left the lane: its next due time, or none
  local head = redis.call('ZRANGE', key('lane', lane), 0, 0, 'WITHSCORES')
  if #head == 0 then redis.call('ZREM', key('lanes'), lane) else redis.call('ZADD', key('lanes'), head[2], lane) end
end

local function record(id, event)
  local number = redis.call('INCR', key('seq'))
  redis.call('XADD', key('events'), number .. '-0', 'e', event)
  if id ~= '' then redis.call('HSET', key('m', id), 'last', number) end
end

local function flow(name, bucket, lane, n)
  local k = key(name, bucket)
  redis.call('HINCRBY', k, lane, n)
  redis.call('EXPIRE', k, 180)
end

local function finish(id, now) -- one delivery of the message ended
  if redis.call('HINCRBY', key('m', id), 'live', -1) <= 0 then redis.call('ZADD', key('ended'), now, id) end
end
