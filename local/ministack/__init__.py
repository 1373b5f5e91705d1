"""MiniStack with what it lacks of AWS: ``python -m local.ministack``, in the virtual environment of MiniStack.

That environment holds MiniStack and nothing else of this project's requirements. Each module here adds one behaviour of
AWS, by functions that `patching` puts in the place of MiniStack's.
"""
