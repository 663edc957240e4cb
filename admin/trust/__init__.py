"""Trust: what anybody may know of this Karta, and may tell it: security, sub-processors, abuse."""
