"""A web server of two worker processes, each of which is a candidate as `leader_client.py` is.

Run as: python leader_server.py HISTORY NAME POLICY,POLICY,... ENDPOINT...

uvicorn replaces a worker that has died, or that has not answered it for 5 s. What workers import, their parent
does not: it would make each start longer by the time of one.
"""

from __future__ import annotations

import json
import os
import sys

import uvicorn

if __name__ == "__main__":
    os.environ["LEADER_SERVER"] = json.dumps(sys.argv[1:])
    uvicorn.run(
        "tests.netns.leader_app:make_app",
        factory=True,
        workers=2,
        host="0.0.0.0",
        port=0,
        log_level="warning",
    )
