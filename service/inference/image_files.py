"""Which names in a folder, or in an archive, are those of images."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm"),
)
# Named, because people have such photographs; not read here.
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
ALL_SUFFIXES = SUFFIXES + HEIC_SUFFIXES
# What storage systems, file managers and archivers leave in folders, in lower case: thumbnails,
# deleted files, older versions.
LEFTOVERS = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "thumbnails"),
        *("__macosx", "network trash folder", "temporary items", "lost+found"),
        *("$recycle.bin", "recycler", "system volume information"),
    }
)


def is_passed_over(name: str) -> bool:
    """Whether an entry of a folder is hidden, or something that systems leave behind."""
    return name.startswith(".") or name.casefold() in LEFTOVERS


def is_called_an_image(name: str) -> bool:
    """Whether a file's name ends as an image's does: one that is read here, or HEIC."""
    return name.lower().endswith(ALL_SUFFIXES)
