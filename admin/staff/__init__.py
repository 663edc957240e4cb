"""The console of the platform's operators: organizations, their plans, and suspension."""
