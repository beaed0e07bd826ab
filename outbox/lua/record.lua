-- Append an event that changes no message (policy changes). ARGV: event.
record('', ARGV[1])
return 1
