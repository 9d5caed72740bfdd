#!/usr/bin/env bash
# Python 3.11; openfeature-sdk 0.10.0.
# Guess: what a provider emits while its `initialize` runs is kept until it emits something else: one that can only
#   answer from a copy says STALE, and the client's status is STALE.
# Behaviour: when `initialize` returns the SDK says READY itself, after and over all that the provider said. The status is
#   READY, handlers hear of STALE first and READY last, and the provider, which thinks that it has told, does not tell
#   again. Emitted an instant after `initialize` has returned, the same event is kept.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openfeature-sdk==0.10.0
cat >"$folder/probe.py" <<'PY'
import time

from openfeature import api
from openfeature.event import ProviderEvent, ProviderEventDetails
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider import AbstractProvider, Metadata


class FromACopy(AbstractProvider):
    early = True

    def get_metadata(self):
        return Metadata("from a copy")

    def say(self):
        self.emit_provider_stale(ProviderEventDetails(message="the server is away"))

    def initialize(self, evaluation_context):
        if self.early:
            self.say()

    def resolve_boolean_details(self, flag_key, default_value, evaluation_context=None):
        return FlagResolutionDetails(True)

    resolve_string_details = resolve_integer_details = resolve_boolean_details
    resolve_float_details = resolve_object_details = resolve_boolean_details


class Afterwards(FromACopy):
    early = False


for domain, provider in (("during", FromACopy()), ("after", Afterwards())):
    heard, client = [], api.get_client(domain)
    for event in (ProviderEvent.PROVIDER_STALE, ProviderEvent.PROVIDER_READY):
        client.add_handler(event, lambda details, event=event, heard=heard: heard.append(event.name))
    time.sleep(0.5)
    heard.clear()  # READY, of the provider that does nothing
    api.set_provider(provider, domain)
    time.sleep(1)
    if not provider.early:
        provider.say()
        time.sleep(1)
    print(f"STALE emitted {domain} initialize: heard {', '.join(heard)}; status {client.get_provider_status().name}")
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
STALE emitted during initialize: heard PROVIDER_STALE, PROVIDER_READY; status READY
STALE emitted after initialize: heard PROVIDER_READY, PROVIDER_STALE; status STALE
SEEN
