"""What the HTTP face answers, decided from a status report alone: no clock, no randomness, no `await`."""
