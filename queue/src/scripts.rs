//! The Lua scripts. What each does atomically, and its keys and arguments, stand at its top.
//!
//! Each begins with `lib/counter.lua`, which reads a counter. Every key is declared in KEYS, so that a cluster can route the call; arguments are binary safe.

use redis::{Cmd, Script, cmd};
use std::sync::LazyLock;

/// One script, with its hash.
pub(crate) struct ScriptText {
    code: &'static str,
    hash: String,
}

impl ScriptText {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }

    /// The call by hash; keys and arguments are to follow.
    pub(crate) fn by_hash(&self, keys: &[&str]) -> Cmd {
        Self::call("EVALSHA", &self.hash, keys)
    }

    /// The call with the whole text, which Redis keeps: for when it doesn't know the hash.
    pub(crate) fn by_text(&self, keys: &[&str]) -> Cmd {
        Self::call("EVAL", self.code, keys)
    }

    fn call(verb: &str, what: &str, keys: &[&str]) -> Cmd {
        let mut call = cmd(verb);
        call.arg(what).arg(keys.len()).arg(keys);
        call
    }
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(crate) static $name: LazyLock<ScriptText> = LazyLock::new(|| {
            ScriptText::new(concat!(
                include_str!("scripts/lib/counter.lua"),
                include_str!(concat!("scripts/", $file, ".lua"))
            ))
        });
    };
}

script!(ENQUEUE, "enqueue");
script!(KNOWN_KEY, "known_key");
script!(FORGET_KEYS, "forget_keys");
script!(ACKNOWLEDGE, "acknowledge");
script!(DEAD_LETTER, "dead_letter");
script!(REPLAY, "replay");
script!(DROP_LETTER, "drop_letter");
script!(RESTORE_LETTER, "restore_letter");
script!(LOOK, "look");
script!(DEPTH, "depth");
script!(RECOUNT, "recount");
script!(NOTE_ATTEMPT, "note_attempt");
script!(FORGIVE_ATTEMPT, "forgive_attempt");
script!(MAKE_GROUP, "make_group");
script!(RECLAIM, "reclaim");
script!(RENEW, "renew");
script!(REMOVE_CONSUMERS, "remove_consumers");
