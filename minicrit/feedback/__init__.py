"""What comes back from use: requests, operators' decisions, outcomes, and experiments on them."""
