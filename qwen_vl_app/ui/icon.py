"""The app's mark, drawn in a few lines, so that no picture has to be fetched for it."""

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
    '<rect width="64" height="64" rx="14" fill="#2563eb"/>'
    '<path d="M10 32c6-10 14-15 22-15s16 5 22 15c-6 10-14 15-22 15s-16-5-22-15z" fill="#fff"/>'
    '<circle cx="32" cy="32" r="9" fill="#2563eb"/><circle cx="35" cy="29" r="3" fill="#fff"/></svg>'
)
"""An SVG document."""
