#!/usr/bin/env bash
# hyperframe 6.1.0, and h2 4.3.0 on it (PyPI).
# Guess: a SETTINGS frame is written and read with the whole identifiers that it holds. They have 16 bits (RFC 9113,
#   6.5.1), those of extensions and of greasing (RFC 8701 for TLS, used alike here) lie above 255, and a peer ignores
#   the ones it does not know.
# Behaviour: reading keeps all 16 bits, writing keeps the low 8: 0x0104 goes out as 0x0004, which is
#   INITIAL_WINDOW_SIZE. A peer that should have ignored the setting sets its windows by it. h2 likewise: its own
#   idea of what it announced, and what stands on the wire, differ. A test that builds frames with hyperframe to see
#   whether an implementation ignores unknown settings sends known ones.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hyperframe==6.1.0 h2==4.3.0 hpack==4.1.0
cat >"$folder/probe.py" <<'PY'
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import Frame, SettingsFrame


def show(settings):
    return ", ".join(f"{number:#06x}={value}" for number, value in sorted(settings.items()))


def parsed(raw):
    frame, length = Frame.parse_frame_header(memoryview(raw[:9]))
    frame.parse_body(memoryview(raw[9 : 9 + length]))
    return frame.settings


by_hand = bytes.fromhex("000006 04 00 00000000 0104 00000007".replace(" ", ""))
print("read:", show(parsed(by_hand)))
print("written by hyperframe:", show(parsed(SettingsFrame(0, settings={0x0104: 7}).serialize())))

client = H2Connection(H2Configuration(client_side=True))
client.initiate_connection()
client.data_to_send()
client.update_settings({0x0104: 7})
print("written by h2:", show(parsed(client.data_to_send())))

server = H2Connection(H2Configuration(client_side=False))
peer = H2Connection(H2Configuration(client_side=True))
peer.initiate_connection()
server.receive_data(peer.data_to_send())
before = server.remote_settings.initial_window_size
peer.update_settings({0x0104: 7})
server.receive_data(peer.data_to_send())
print("the peer's window for new streams:", before, "then", server.remote_settings.initial_window_size)
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
read: 0x0104=7
written by hyperframe: 0x0004=7
written by h2: 0x0004=7
the peer's window for new streams: 65535 then 7
SEEN
