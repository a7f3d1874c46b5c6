"""A project's own option files: those in ``conf/`` of the working directory stand beside Raylight's.

Found by Hydra through its package's name. Raylight's come first: a project can't change what a name of ours means.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from raylight.installation import project_options


class ProjectOptions(SearchPathPlugin):
    """Adds the working directory's ``conf/`` to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder, where there is one; see Hydra's documentation of search paths."""
        if folder := project_options():
            search_path.append(provider="project", path=f"file://{folder}")
