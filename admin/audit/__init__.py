"""Audit: what happened in an organization, as pages, as files, and as a proof."""
