"""Django settings: ``base`` holds everything, ``dev``, ``test`` and ``prod`` the differences."""
