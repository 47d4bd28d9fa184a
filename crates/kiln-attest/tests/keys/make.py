"""Makes the keys of the tests, as cosign 2 and OpenSSL do; needs cryptography and PyNaCl. Run once: they are kept."""

import base64
import hashlib
import json
import os
import textwrap

import nacl.secret
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

PASSWORD = b"open sesame"
N, R, P = 65536, 8, 1


def encoded(data):
    return base64.b64encode(data).decode()


key = ec.generate_private_key(ec.SECP256R1())
pkcs8 = key.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
salt, nonce = os.urandom(32), os.urandom(24)
derived = hashlib.scrypt(PASSWORD, salt=salt, n=N, r=R, p=P, maxmem=256 << 20, dklen=32)
box = nacl.secret.SecretBox(derived).encrypt(pkcs8, nonce).ciphertext
locked = json.dumps(
    {
        "kdf": {"name": "scrypt", "params": {"N": N, "r": R, "p": P}, "salt": encoded(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": encoded(nonce)},
        "ciphertext": encoded(box),
    },
    separators=(",", ":"),
)
label = "ENCRYPTED SIGSTORE PRIVATE KEY"
body = "\n".join(textwrap.wrap(encoded(locked.encode()), 64))
with open("cosign.key", "w") as file:
    file.write(f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
with open("cosign.pub", "wb") as file:
    file.write(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
