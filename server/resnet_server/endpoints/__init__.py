"""What callers speak: requests are checked and decoded here, and answers encoded; nothing here computes."""
