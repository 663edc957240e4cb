"""An organization with its plan and its API keys."""
