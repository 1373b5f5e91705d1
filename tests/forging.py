"""Makes forged tokens with any header, payload and signature."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

from cryptography.hazmat.primitives import serialization
from jwt.algorithms import get_default_algorithms


def base64url(content):
    """Encode bytes, or a value as JSON, as a part of a token."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def part(token, number):
    """Decode the header or the claims of a token."""
    text = token.split(".")[number]
    return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def compact(header, payload, sign=lambda _: b""):
    """Make a token in JWS compact serialization; by default without a signature."""
    signed = f"{base64url(header)}.{base64url(payload)}"
    return f"{signed}.{base64url(sign(signed.encode()))}"


def signed_with(key):
    """Return a function that signs with a key, whatever the token's header says."""
    algorithm = get_default_algorithms()[key.algorithm]
    return lambda message: algorithm.sign(message, key.private)


def hs256(secret):
    """Return a function that signs with a shared secret."""
    return lambda message: hmac.digest(secret, message, sha256)


def public_pem(key):
    """The public key in PEM."""
    public = key.private.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
