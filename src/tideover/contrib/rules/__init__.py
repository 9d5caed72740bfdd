"""What integrations decide: which hosts are services, what is tried again, where an answer leads."""
