#!/usr/bin/env bash
# Python 3.11; openfeature-sdk 0.10.0.
# Guess: `set_provider` with the provider that is set already (a module that is imported twice, a start-up hook that runs
#   in each worker) changes nothing, with a domain and without.
# Behaviour: without a domain that is so. With one the provider is initialized again, without a shutdown in between, and
#   is NOT_READY until that is over: meanwhile each flag is the caller's default, in a service that was well. (One
#   provider for two domains is initialized once, and shut down with the second of them.)
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openfeature-sdk==0.10.0
cat >"$folder/probe.py" <<'PY'
import time

from openfeature import api
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata


class Counting(AbstractProvider):
    def __init__(self):
        super().__init__()
        self.calls = []

    def get_metadata(self):
        return Metadata("counting")

    def initialize(self, evaluation_context):
        self.calls.append("initialize")
        time.sleep(0.5)  # as long as it takes to open a connection

    def shutdown(self):
        self.calls.append("shutdown")

    def resolve_boolean_details(self, flag_key, default_value, evaluation_context=None):
        return FlagResolutionDetails(True, reason=Reason.STATIC)

    resolve_string_details = resolve_integer_details = resolve_boolean_details
    resolve_float_details = resolve_object_details = resolve_boolean_details


def settle():
    time.sleep(1)


def show(what, provider, client):
    found = client.get_boolean_details("flag", False)
    error = found.error_code.name if found.error_code else "no error"
    print(f"{what}: {' '.join(provider.calls)}; {client.get_provider_status().name}; {found.value}, {error}")


for domain in (None, "billing"):
    provider, client = Counting(), api.get_client(domain)
    name = "no domain" if domain is None else "a domain"
    chosen = () if domain is None else (domain,)
    api.set_provider(provider, *chosen)
    settle()
    show(f"{name}, set once", provider, client)
    api.set_provider(provider, *chosen)
    time.sleep(0.1)
    show(f"{name}, set again", provider, client)
    settle()
    show(f"{name}, a second later", provider, client)

shared = Counting()
api.set_provider(shared, "a")
api.set_provider(shared, "b")
settle()
api.set_provider(Counting(), "a")
settle()
print("for two domains, replaced in one:", *shared.calls)
api.set_provider(Counting(), "b")
settle()
print("for two domains, replaced in both:", *shared.calls)
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
no domain, set once: initialize; READY; True, no error
no domain, set again: initialize; READY; True, no error
no domain, a second later: initialize; READY; True, no error
a domain, set once: initialize; READY; True, no error
a domain, set again: initialize initialize; NOT_READY; False, PROVIDER_NOT_READY
a domain, a second later: initialize initialize; READY; True, no error
for two domains, replaced in one: initialize
for two domains, replaced in both: initialize shutdown
SEEN
