"""The HTTP doors beside the page, and the guard in front of all of them."""
