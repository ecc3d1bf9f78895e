"""The adapter methods, one file per method: its options, its layer, its hooks.

`espnet_blora.adapters.registry.METHODS` lists them all. A method's file imports the machinery of
`espnet_blora.adapters` that stands below the registry, and other methods it builds on.
"""
