//! The exit codes that every logweir program keeps to.

use std::process::ExitCode;

/// Why a program ends; [`Exit::code`] is its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The job is done.
    Done,
    /// The answer is negative: a difference, a reject, a problem found.
    Negative,
    /// Wrong usage or configuration: a person must mend it.
    Usage,
    /// Something that is needed can't be reached.
    Unreachable,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Negative => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
