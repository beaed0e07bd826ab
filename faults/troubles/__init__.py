"""What is broken, and when. Each trouble lasts about as long as its load."""
