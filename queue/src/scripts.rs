//! The Lua scripts, each with what it does atomically.
