"""pydantic's models as types of configuration, and configuration as a source of pydantic-settings.

    import tideover.contrib.pydantic

Importing this is all that models need. `adapters` validates and writes them, `schemas` bounds what that may cost,
`dumping` is the JSON on both ways, `fields` says which keys a model's fields have; `source` is the source of
pydantic-settings, `origins` where it reads, and `live` the settings that follow their keys.
"""

from tideover.codecs.decoding import add_library
from tideover.extras import importing

with importing(__name__, extra="pydantic"):
    from tideover.contrib.pydantic.adapters import Pydantic
    from tideover.contrib.pydantic.live import live_settings
    from tideover.contrib.pydantic.source import TideoverSettingsSource

__all__ = ["TideoverSettingsSource", "live_settings"]

add_library(Pydantic())
