#!/usr/bin/env bash
# Python 3.11; cryptography 50.0.2.
# Guess: a Fernet key and a token are exact. A key with a quote around it, as env files leave one, is refused; of a token
#   nothing can be added or taken without decryption saying so.
# Behaviour: every character that is no base64 is read over, in keys and in tokens: quotes, blanks, line ends, both
#   alphabets. So one plaintext has any number of tokens that are all valid, and "the file is as it was written" cannot
#   be concluded from "it decrypts". What is decrypted is authentic all the same. Padding alone is exact. And a token
#   that says it was made in ten days decrypts, unless a `ttl` is given.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet cryptography==50.0.2
cat >"$folder/probe.py" <<'PY'
import time

from cryptography.fernet import Fernet, InvalidToken

key = Fernet.generate_key().decode()
token = Fernet(key).encrypt(b"value").decode()


def outcome(key, token, **options):
    try:
        return Fernet(key).decrypt(token, **options).decode()
    except (InvalidToken, ValueError) as exc:
        return type(exc).__name__


print("as they are:", outcome(key, token))
print("key in quotes:", outcome(f'"{key}"', token))
print("key with blanks and a line end:", outcome(f" {key[:9]} {key[9:]}\n", token))
print("key in the other alphabet:", outcome(key.replace("-", "+").replace("_", "/"), token))
print("key without its padding:", outcome(key.rstrip("="), token))
print("token with a line end inside:", outcome(key, f"{token[:40]}\n{token[40:]}"))
print("token with other characters inside:", outcome(key, f"{token[:40]}!#{token[40:]}"))
print("token with one character less:", outcome(key, f"{token[:40]}{token[41:]}"))
later = Fernet(key).encrypt_at_time(b"value", int(time.time()) + 10 * 86400).decode()
print("token of in ten days:", outcome(key, later), "- with a ttl:", outcome(key, later, ttl=60))
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
as they are: value
key in quotes: value
key with blanks and a line end: value
key in the other alphabet: value
key without its padding: ValueError
token with a line end inside: value
token with other characters inside: value
token with one character less: InvalidToken
token of in ten days: value - with a ttl: InvalidToken
SEEN
