"""An organization with its plan, its first steps and its API keys."""
