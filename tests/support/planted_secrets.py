"""A corpus of secrets of each kind that goes through Karta: shaped ones, and those that have no shape."""

from __future__ import annotations

import base64
import secrets

import pyotp

from storage.key_format import mint, mint_management
from storage.model import Mode

SHAPED = {
    "live key": mint(Mode.LIVE).token,
    "test key": mint(Mode.TEST).token,
    "management key": mint_management().token,
    "anthropic key": "sk-ant-api03-Tk9UYXNlY3JldC1idXQtbG9va3M-AA",
    "openai key": "sk-proj-8Jd7s6Qp2LmN4vB1xZ3cT5yU",
    "google key": "AIzaSyB3v8NotAKey7Kq2LmX9pRtW4uYcEfGh",
    "aws key": "AKIAIOSFODNN7EXAMPLE",
    "webhook secret": "whsec_" + base64.b64encode(bytes(range(32))).decode(),
    "stripe secret key": "sk_" + "live_51Hq8PlantedSecretOfStripe",
    "stripe restricted key": "rk_" + "live_51Hq8PlantedSecretOfStripe",
    "cookie": secrets.token_urlsafe(32),
    "totp secret": pyotp.random_base32(),
    "totp link": "otpauth://totp/Karta:a%40example.com?secret=JBSWY3DPEHPK3PXP&issuer=Karta",
    "totp code": "492817",
    "json web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLW9mLWl0",
    "bearer": "Bearer 8d0e5a9f-planted",
    "private key": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYPlanted\n-----END PRIVATE KEY-----",
    "database url": "karta:hunter2hunter2@",
    "bcrypt digest": "$2b$12$abcdefghijklmnopqrstuuPlantedPlantedPlantedPlantedPlan",
}
"""By what each is; `hide` knows these."""
SHAPELESS = {
    "password": "correct horse battery staple",
    "prompt": "Dear doctor, my daughter Wilhelmina was diagnosed yesterday",
    "sql": "UPDATE users SET email = 'wilhelmina@example.com' WHERE",
    "parameter": "wilhelmina@example.com",
    "recovery code": "k4rt-9zq2-mm71",
    "path of a link": "/reset/planted-in-the-path",
}
"""Nothing about them says what they are, so they must never be taken along."""
ALL = {**SHAPED, **SHAPELESS}


def everything() -> str:
    """All in one text."""
    return " | ".join(ALL.values())


def found_in(text: str) -> list[str]:
    """What of the corpus stands in a text, also as JSON writes it."""
    plain = text.replace("\\n", "\n").replace('\\"', '"').replace("\\/", "/")
    return [kind for kind, secret in ALL.items() if secret in text or secret in plain]
