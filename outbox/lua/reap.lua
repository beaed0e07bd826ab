-- Take back work whose lease ran out. The next hop may have it already, so the next attempt is flagged. After too many
-- lost leases it is held for a person. ARGV: now, most lost leases, limit, now by the queue's own clock. Returns how many
-- were taken back.
local now, most = ARGV[1], tonumber(ARGV[2])
local lost = redis.call('ZRANGEBYSCORE', key('leases'), '-inf', ARGV[4], 'LIMIT', 0, ARGV[3])
for _, did in ipairs(lost) do
  take_back(did, now, most)
end
if #lost > 0 then wake() end
return #lost
