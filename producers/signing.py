"""The notary's key: Ed25519, used for statements and nothing else."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from producers.log import ProducersError
from schemas.statements import NoStatement, Statement, read_line


class KeyRefused(ProducersError):
    """This is not a key that statements are signed or verified with. Give an Ed25519 key as PEM: the private one (PKCS #8,
    unencrypted) to the notary, the public one to who verifies."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who has it can verify statements, and make none."""

    _key: Ed25519PublicKey

    @classmethod
    def read(cls, pem: str) -> Self:
        """From its text. Raises `KeyRefused`."""
        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyRefused("this is no public key in PEM") from error
        if not isinstance(key, Ed25519PublicKey):
            raise KeyRefused("this public key is not of the kind Ed25519")
        return cls(key)

    @property
    def pem(self) -> str:
        """Its text."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key's 32 bytes: what two people compare."""
        return sha256(self._key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()

    def opened(self, line: bytes) -> Statement:
        """The statement in a line. Raises `NoStatement`, also where another key signed it."""
        statement, signature = read_line(line)
        try:
            self._key.verify(signature, statement.signed_bytes())
        except InvalidSignature as error:
            raise NoStatement(f"statement {statement.number} is not signed by this key") from error
        return statement


@dataclass(frozen=True, slots=True)
class Signer:
    """The private key."""

    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def read(cls, pem: str) -> Self:
        """From its text. Raises `KeyRefused`."""
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyRefused("this is no unencrypted private key in PEM (PKCS #8)") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyRefused("this private key is not of the kind Ed25519")
        return cls(key)

    @property
    def public(self) -> PublicKey:
        """The key that verifies."""
        return PublicKey(self._key.public_key())

    def line(self, statement: Statement) -> bytes:
        """The statement, signed."""
        return statement.line(self._key.sign(statement.signed_bytes()))
