//! The token file: one line with the agent's token; looked at again each second, so that a new token needs no restart.

use reqwest::header::HeaderValue;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// How often the file is looked at; its content counts, since the times of two writes may be the same.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// More than this is no token.
const MAX_BYTES: u64 = 4_096;

/// Why a file holds no token.
#[derive(Debug, Error)]
pub(crate) enum TokenError {
    #[error("--token-file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("--token-file {}: it must hold one token, a line of printable ASCII, and nothing else", path.display())]
    NoToken { path: PathBuf },
}

/// The token of now.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    /// `Bearer …`, marked as sensitive, so it is never printed.
    header: Mutex<HeaderValue>,
    unreadable: Mutex<bool>,
}

impl TokenFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// When there is no token in it.
    pub(crate) fn open(path: &Path) -> Result<Self, TokenError> {
        let header = Mutex::new(read(path)?);
        Ok(Self { path: path.to_owned(), header, unreadable: Mutex::new(false) })
    }

    /// The header's value.
    pub(crate) fn header(&self) -> HeaderValue {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it again, and says whether there is another token now. What can't be read leaves the old one in place,
    /// since a file that is being replaced may be away for a moment.
    pub(crate) fn refresh(&self) -> bool {
        let read = read(&self.path);
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(header) => {
                *unreadable = false;
                let mut current = self.header.lock().unwrap_or_else(PoisonError::into_inner);
                let changed = *current != header;
                if changed {
                    *current = header;
                    tracing::info!(file = %self.path.display(), "there is a new token");
                }
                changed
            }
            Err(error) => {
                if !std::mem::replace(&mut *unreadable, true) {
                    tracing::warn!(%error, "going on with the token that was read before");
                }
                false
            }
        }
    }
}

fn read(path: &Path) -> Result<HeaderValue, TokenError> {
    use std::io::Read as _;
    let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
    let no_token = || TokenError::NoToken { path: path.to_owned() };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no_token());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| no_token())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_again_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for wrong in ["", "\n", "two words", "one\ntwo\n"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(TokenFile::open(&path).is_err(), "{wrong:?}");
        }
        std::fs::write(&path, "s3cret-one\n").unwrap();
        let file = TokenFile::open(&path).unwrap();
        assert_eq!(file.header(), "Bearer s3cret-one");
        assert!(!format!("{file:?}").contains("s3cret"), "{file:?}");
        assert!(!file.refresh());
        std::fs::write(&path, "s3cret-two\n").unwrap();
        assert!(file.refresh());
        assert_eq!(file.header(), "Bearer s3cret-two");
        std::fs::remove_file(&path).unwrap();
        assert!(!file.refresh());
        assert_eq!(file.header(), "Bearer s3cret-two");
    }
}
