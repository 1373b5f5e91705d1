"""MiniStack with what it lacks of AWS: ``python -m local.ministack``, in the environment that MiniStack has to itself.

Nothing else of this project can be imported there. Each module has an ``extend()`` that puts functions of its own in
the place of MiniStack's; they know its internals, so they hold for the version that is pinned.
"""
