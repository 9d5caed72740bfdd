"""Which version of tideover this is: the metadata of the package is made of it, so it is not looked up there."""

VERSION = "0.1.0"
