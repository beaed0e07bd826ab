-- Take up to `limit` due deliveries of a lane under a lease with a fencing token.
-- ARGV: lane, channel, limit, now, lease (ms), most channels of a lane, now by the queue's own clock, which leases go by.
-- Returns a list of {delivery id, token, recipients, meta, '', and unless all of this is 0 or '': attempts, possible
-- duplicate, rescheduled or '', those recipients that are on the suppression list, as "0:bounce,1:manual"}. Contents the
-- caller fetches itself: every string that a script sees, Lua hashes from end to end, and it is copied four times.
return take(ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), true)
