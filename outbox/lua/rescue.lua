-- Take back at once what an owner held that does not send it any more: a channel, or a worker with all its channels
-- (named <worker>#<n>). It is given nothing any more, and what it was given and has not seen is gone. What it had begun counts as a lost lease and is flagged, the rest was never touched.
-- ARGV: now, most lost leases, owner, whether all had begun (0 or 1), then the delivery ids that had begun.
-- Returns how many were taken back.
local now, most, owner, all = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local begun = {}
for at = 5, #ARGV do
  begun[ARGV[at]] = true
end

local function owned(by)
  return by == owner or string.sub(by or '', 1, #owner + 1) == owner .. '#'
end

local taken, lanes = 0, {}
for _, did in ipairs(redis.call('ZRANGE', key('leases'), 0, -1)) do
  local id, k = split(did)
  local f = redis.call('HMGET', key('m', id), 'owner:' .. k, 'lane:' .. k)
  if owned(f[1]) then
    taken = taken + 1
    lanes[f[2]] = true
    redis.call('DEL', key('given', f[1]))
    if all or begun[did] then take_back(did, now, most) else give_back(did, now, 'never_begun') end
  end
end
redis.call('ZREMRANGEBYSCORE', key('idle'), '-inf', now - 60000) -- of workers that are gone
for _, channel in ipairs(redis.call('ZRANGE', key('idle'), 0, -1)) do
  if owned(channel) then redis.call('ZREM', key('idle'), channel) end
end
for lane in pairs(lanes) do
  for _, channel in ipairs(redis.call('ZRANGE', key('chan', lane), 0, -1)) do
    if owned(channel) then redis.call('ZREM', key('chan', lane), channel) end
  end
end
if taken > 0 then wake() end
return taken
