# SPDX-License-Identifier: MIT
"""The media type of a file, by the end of its name."""

import functools
import mimetypes

# What the tables of the supported Pythons or of systems lack, or have as it was before RFC 9239 (text/javascript),
# RFC 8081 (font/*), RFC 9512 (YAML) and their like.
_MODERN = {
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".cjs": "text/javascript",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".ico": "image/vnd.microsoft.icon",
    ".ics": "text/calendar",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".jxl": "image/jxl",
    ".m4a": "audio/mp4",
    ".map": "application/json",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".svg": "image/svg+xml",
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
# A compressed file is sent as what it is: with Content-Encoding a browser would save it unpacked under its packed name.
_COMPRESSED = {
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip2",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
}
_UNKNOWN = "application/octet-stream"


@functools.lru_cache(1)
def _table() -> mimetypes.MimeTypes:
    table = mimetypes.MimeTypes()  # without the files of the system: every machine answers the same
    for ending, media_type in _MODERN.items():
        table.add_type(media_type, ending)
    return table


@functools.lru_cache(1024)
def media_type_of(ending: str) -> str:
    """The value of Content-Type for a file.

    Args:
        ending: of the file's name, from its last dot on, or "" if it has none; upper and lower case are the same.

    Returns:
        The type; a text has `charset=utf-8`. application/octet-stream if nobody knows.
    """
    media_type, encoding = _table().guess_type("name" + ending)
    if ending.lower() == ".zst":
        media_type = "application/zstd"
    elif encoding is not None:
        media_type = _COMPRESSED.get(encoding, _UNKNOWN)
    if media_type is None:
        return _UNKNOWN
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type
