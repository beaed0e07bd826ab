-- Put an address on the suppression list. ARGV: address, value, now. Returns the value that it has now.
suppress(ARGV[1], ARGV[2], ARGV[3])
return redis.call('HGET', key('suppressed'), ARGV[1])
