"""The laboratory's signing key: made on first use, kept in the cache, never handed out; or another one, by its file.

`keys/laboratory.pem` in the cache holds the leaf's private key, the leaf's certificate and that of the root which
signed it. One file, so that two processes that start at once cannot leave halves of two pairs; whoever comes second
takes what is there. The root's private key is forgotten as soon as it has signed the leaf.
"""

from __future__ import annotations

import datetime
import importlib
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from generation import records
from generation.records import UserError

ORGANISATION = "Vicious Cycle"
LEAF, ROOT = f"{ORGANISATION} laboratory", f"{ORGANISATION} laboratory root"
_LIFE = datetime.timedelta(days=3650)  # of certificates, from a day before they are made
_USED = "VICIOUS_CYCLE_KEY"
_RENEW = "keys=new makes a new one (what was signed before is then valid, but no longer trusted)"
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)


@dataclass(frozen=True)
class LaboratoryKey:
    """As PEM: the leaf's private key (PKCS 8), the leaf's certificate, the root's."""

    private: str
    leaf: str
    root: str


def package(name: str) -> Any:
    """A module of the extra `provenance`; raises `UserError` that says how to get it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{name.partition('.')[0]} is missing, and without it no file can be signed or verified: "
            "pip install 'vicious-cycle[provenance]'"
        ) from error


def key_file() -> Path:
    """In the cache, or where `use_key` says."""
    return Path(os.environ.get(_USED) or records.cache_folder() / "keys" / "laboratory.pem")


def use_key(path: Path) -> None:
    """Sign and verify with another key file, in this process and those that it starts. Raises `UserError` for a file
    that is missing, damaged, has run out, or whose certificate its root has not signed."""
    os.environ[_USED] = str(path.resolve())
    try:
        laboratory_key()
    except UserError:
        del os.environ[_USED]
        raise


def new_key() -> tuple[Path, Path | None]:
    """Make a new key in the cache. One that is there is kept beside it: (the new file, the old one's new name)."""
    os.environ.pop(_USED, None)
    path, old = key_file(), None
    if path.exists():
        made = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
        old = path.with_name(f"laboratory-{made:%Y%m%dT%H%M%S.%f}.pem")
        os.replace(path, old)
    laboratory_key()
    return path, old


def laboratory_key() -> LaboratoryKey:
    """The key that signs; where there is none in the cache it is made, and a line on stderr says so.

    Raises `UserError` for a file that is damaged, has run out, or whose certificate its root has not signed.
    """
    known = known_key()
    if known is not None:
        _check(known, str(key_file()))
        return known
    path, content = key_file(), _made()
    if _USED in os.environ:
        raise UserError(f"{path}: no such key file; keys=new makes one in the cache")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        os.link(beside, path)
        print(f"{path}: made, the key that signs this laboratory's media; it is private, keep it here", file=sys.stderr)
    except FileExistsError:
        pass  # another process was first
    finally:
        beside.unlink(missing_ok=True)
    known = known_key()
    assert known is not None
    return known


def known_key() -> LaboratoryKey | None:
    """The key that lies in the cache; None where none was made yet. Raises `UserError` for a damaged file."""
    path = key_file()
    try:
        blocks = [match.group() for match in _BLOCK.finditer(path.read_text(errors="replace"))]
    except FileNotFoundError:
        return None
    if [block.splitlines()[0].strip("-") for block in blocks] != ["BEGIN PRIVATE KEY", *["BEGIN CERTIFICATE"] * 2]:
        raise UserError(
            f"{path}: damaged, it must hold a private key and two certificates, the leaf's before the root's; {_RENEW}"
        )
    private, leaf, root = blocks
    return LaboratoryKey(private, leaf, root)


@cache
def _check(key: LaboratoryKey, path: str) -> None:
    x509, serialization = package("cryptography.x509"), package("cryptography.hazmat.primitives.serialization")
    try:
        leaf, root = (x509.load_pem_x509_certificate(text.encode()) for text in (key.leaf, key.root))
        private = serialization.load_pem_private_key(key.private.encode(), None)
    except ValueError as error:
        raise UserError(f"{path}: damaged, its blocks cannot be read; {_RENEW}") from error
    now = datetime.datetime.now(datetime.UTC)
    for name, certificate in (("certificate", leaf), ("root", root)):
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise UserError(
                f"{path}: its {name} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
                f"{certificate.not_valid_after_utc:%Y-%m-%d} only; {_RENEW}"
            )
    try:
        leaf.verify_directly_issued_by(root)
    except Exception as error:  # of several kinds: the name, the type of key, the signature
        raise UserError(f"{path}: its certificate was not signed by the root that is in it; {_RENEW}") from error
    if private.public_key() != leaf.public_key():
        raise UserError(f"{path}: its private key is not that of its certificate; {_RENEW}")


def _made() -> str:
    """A fresh leaf and root, ES256, as the C2PA's certificate profile asks (specification 2.2, 14.5)."""
    x509, ec = package("cryptography.x509"), package("cryptography.hazmat.primitives.asymmetric.ec")
    hashes, serialization = (package(f"cryptography.hazmat.primitives.{name}") for name in ("hashes", "serialization"))
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    identifier = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())

    def name(common: str) -> Any:
        oid = x509.oid.NameOID
        names = [(oid.ORGANIZATION_NAME, ORGANISATION)] if common == LEAF else []
        return x509.Name([x509.NameAttribute(*item) for item in [*names, (oid.COMMON_NAME, common)]])

    def certificate(common: str, public: Any, authority: bool) -> str:
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(name(ROOT))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + _LIFE)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not authority,
                    key_cert_sign=authority,
                    crl_sign=authority,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if authority:
            builder = builder.add_extension(identifier, critical=False)
        else:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
            ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        made: bytes = builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return made.decode()

    private: bytes = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (
        private.decode()
        + certificate(LEAF, leaf_key.public_key(), authority=False)
        + certificate(ROOT, root_key.public_key(), authority=True)
    )
