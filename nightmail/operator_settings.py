"""The settings for a command that works on the stores of a stack: those of the one that runs in the data folder."""

from nightmail.complaint import load_settings
from nightmail.stack_folder import StackFolder, read_environment
from runtime.settings import Settings


def operator_settings() -> Settings:
    """The environment's settings; where a stack runs in the data folder, what that stack was started with counts."""
    settings = load_settings()
    folder = StackFolder(settings.data_dir.absolute())
    if folder.holder() is None:
        return settings
    explicit = {name: getattr(settings, name) for name in settings.model_fields_set}
    running = read_environment(folder.stack_env)
    return Settings(**explicit | {name.removeprefix("NIGHTMAIL_").lower(): value for name, value in running.items()})
