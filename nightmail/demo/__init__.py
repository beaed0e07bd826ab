"""`nightmail demo`: 2,000 mails by HTTP and SMTP, the database taken away half way, and an account of every one."""
