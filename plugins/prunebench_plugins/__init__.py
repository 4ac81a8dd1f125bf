"""The built-in methods; each is registered by an entry point, as a third party's would be."""
