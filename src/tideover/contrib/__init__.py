"""tideover for other libraries: one module for each, named after it, each needing the extra of that name."""
