"""What a secret looks like: the one vocabulary of those that are known by their shape.

For strings that leave the process although nobody meant a secret to be in them: the last net, below the rule
that what is told is a closed list (docs/decisions/0053). A shape cannot be known of a password, a prompt or a
value in a row: these are kept out by that rule, never by this file.
"""

from __future__ import annotations

import re

HIDDEN = "[hidden]"
_SHAPES = (
    r"kt_(?:live|test|mgmt)_[0-9A-Za-z_]+",  # Karta's own keys, also cut short
    r"whsec_[0-9A-Za-z+/=_-]+",  # secrets of webhooks
    r"\b(?:sk|rk|pk)[-_][0-9A-Za-z_-]{6,}",  # Anthropic's, OpenAI's, Stripe's, and many that imitate them
    r"\b(?:gsk|hf|r8|xai|pplx|nvapi)[-_][0-9A-Za-z_-]{8,}",  # other providers'
    r"\bAIza[0-9A-Za-z_-]{20,}",  # Google's
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # Amazon's
    r"\bxox[a-z]-[0-9A-Za-z-]+",
    r"\bgh[pousr]_[0-9A-Za-z]{20,}",
    r"(?i:\b(?:bearer|basic)\s+)[^\s,;\"']{6,}",  # a header's credential
    r"(?i:__host-[a-z-]+)=[^\s;]+",  # our cookies
    r"\beyJ[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]*)?",  # a JSON Web Token
    r"otpauth://[^\s\"']+",
    r"-----BEGIN [^-]+-----.*?(?:-----END [^-]+-----|\Z)",
    r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)",  # name and password in a URL
    r"\$2[aby]\$[0-9]{2}\$[./0-9A-Za-z]+",  # bcrypt's digests
    r"\b[A-Z2-7]{26,}\b",  # base32, as TOTP's secrets are written
    r"(?<![0-9A-Za-z])[0-9]{6}(?![0-9A-Za-z])",  # one-time codes
    # Cookies, links and data keys are 32 random bytes in base64: nothing that people read looks like it.
    r"(?<![\w+/-])(?=[\w+/-]*[0-9])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])[\w+/-]{40,}={0,2}",
)
_ANY = re.compile("|".join(f"(?:{shape})" for shape in _SHAPES), re.DOTALL)


def hide(text: str) -> str:
    """The same, with whatever looks like a secret replaced."""
    return _ANY.sub(HIDDEN, text)
