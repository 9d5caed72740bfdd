"""Feature flags by OpenFeature, from the configuration in memory: `api.set_provider(TideoverProvider(tide))`.

`provider` answers, `flags` says what a value in etcd means as a flag, and `announcer` tells OpenFeature what
becomes of the provider. Nothing here evaluates rules about users: who needs targeting takes flagd.
"""

from __future__ import annotations

from tideover.extras import importing

with importing(__name__, extra="openfeature"):
    from tideover.contrib.openfeature.provider import TideoverProvider

__all__ = ["TideoverProvider"]
