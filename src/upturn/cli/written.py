"""Text that a command writes to a file of the user's."""

from pathlib import Path

from upturn.core.errors import Invalid


def write_text(path: Path, text: str, *, option: str) -> None:
    """Write the file whole. Raises Invalid, naming the option, where it can't be written."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise Invalid(
            f"{path} can't be written: {error.strerror}.", hint=f"Give another file to {option}."
        ) from None
