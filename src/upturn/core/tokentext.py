"""TokenText: how the secret of a token is written, told from a slip of the hand, and hashed."""

import hashlib
import secrets

PREFIX = "upt_"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, as ids have it
_SECRET_BITS = 256
_SECRET_CHARS = 52
_CHECK_CHARS = 6


def new_token_text() -> str:
    """A new secret: 256 random bits, and 30 bits by which a typing error is seen.

    >>> text = new_token_text()
    >>> text[:4], len(text), is_token_text(text), is_token_text(text[:-1] + "!")
    ('upt_', 62, True, False)
    """
    secret = _base32(secrets.randbits(_SECRET_BITS), _SECRET_CHARS)
    return PREFIX + secret + _check(secret)


def is_token_text(text: str) -> bool:
    """Whether a text is a token's as it was given, whether or not there is such a token."""
    secret = text.removeprefix(PREFIX)
    if len(text) != len(PREFIX) + _SECRET_CHARS + _CHECK_CHARS or len(secret) == len(text):
        return False
    return _check(secret[:_SECRET_CHARS]) == secret[_SECRET_CHARS:]


def token_hash(text: str) -> str:
    """What is stored in place of a secret, and what it is found by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _check(secret: str) -> str:
    digest = hashlib.sha256(b"upturn token\0" + secret.encode("utf-8", "surrogatepass")).digest()
    return _base32(int.from_bytes(digest[:4]) >> 2, _CHECK_CHARS)


def _base32(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
