"""pydantic's models as types of configuration, and configuration as a source of pydantic-settings.

    import tideover.contrib.pydantic

Importing this is all that models need. `adapters` validates and writes them, `schemas` bounds what that may cost,
`dumping` is the JSON on both ways, `fields` says which keys a model's fields have.
"""

from tideover.codecs.decoding import add_library
from tideover.extras import importing

with importing(__name__, extra="pydantic"):
    from tideover.contrib.pydantic.adapters import Pydantic

add_library(Pydantic())
