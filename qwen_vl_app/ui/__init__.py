"""The page: Streamlit pages and their parts, every word in two languages.

Asks the hub and shows what comes; knows no torch and no SQL. Only `state` touches the session's state.
"""
