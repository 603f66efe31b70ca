//! What ringlane writes: its own messages on standard error, and one line per session.
