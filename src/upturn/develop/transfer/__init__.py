"""Transfer: runs with everything that they refer to, as one file, and from one into a store."""

from upturn.develop.transfer.exporting import Exported, export_runs
from upturn.develop.transfer.importing import Imported, import_runs

__all__ = ["Exported", "Imported", "export_runs", "import_runs"]
