#!/usr/bin/env bash
# Python 3.11; openfeature-sdk 0.10.0.
# Guess: after `set_provider_and_wait` of a, of b and of a again (a switch, and back) what `a` sees is in order: initialize,
#   shutdown, initialize; it is initialized again when its shutdown is over, and open when the third call returns.
# Behaviour: `shutdown` runs in a thread that nobody waits for, and the third call initializes `a` beside it. A shutdown that
#   takes half a second (it sends what is buffered and then closes) ends after the second initialize: the SDK says READY,
#   and each flag is the caller's default. With half a second more between the calls all is well.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openfeature-sdk==0.10.0
cat >"$folder/probe.py" <<'PY'
import time

from openfeature import api
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider import AbstractProvider, Metadata


class Connected(AbstractProvider):
    def __init__(self):
        super().__init__()
        self.calls, self.open = [], False

    def get_metadata(self):
        return Metadata("connected")

    def initialize(self, evaluation_context):
        self.open = True
        self.calls.append("initialized")

    def shutdown(self):
        self.calls.append("shutdown begins")
        time.sleep(0.5)  # sends what is buffered
        self.open = False
        self.calls.append("shutdown ends")

    def resolve_boolean_details(self, flag_key, default_value, evaluation_context=None):
        if not self.open:
            raise ConnectionError("closed")
        return FlagResolutionDetails(True)

    resolve_string_details = resolve_integer_details = resolve_boolean_details
    resolve_float_details = resolve_object_details = resolve_boolean_details


for pause in (1, 0.1):
    a, b, client = Connected(), Connected(), api.get_client()
    for provider in (a, b, a):
        api.set_provider_and_wait(provider)
        time.sleep(pause)
    time.sleep(2)
    found = client.get_boolean_details("flag", False)
    print(f"{pause} s between: {', '.join(a.calls)}")
    print(f"  status {client.get_provider_status().name}, flag {found.value}, {found.error_message or 'no error'}")
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>"$folder/err" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
1 s between: initialized, shutdown begins, shutdown ends, initialized
  status READY, flag True, no error
0.1 s between: initialized, shutdown begins, initialized, shutdown ends
  status READY, flag False, closed
SEEN
