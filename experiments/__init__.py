"""Physics experiments: one folder for each part of a run, one module here for each command.

Folders import from those before them: ``options``, ``data``, ``saved_runs``, ``models``,
``metrics``, ``tasks``, ``plots``, ``report``, ``training``; ``config/`` mirrors them.
"""

from data.signals import guard_imports

guard_imports()
