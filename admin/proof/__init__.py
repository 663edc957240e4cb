"""Proof: the prompt that comes before what is sensitive, and the way back to what it interrupted."""
