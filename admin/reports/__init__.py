"""Reports: what strangers sent, for the staff: abuse, and what broke the policy of the pages."""
